"""The Go structs that `inspect --format` works on: names, order and types of their fields, as Docker's client 28.2 has them.

A template sees the struct and not its JSON: a field that JSON leaves out is there with the zero value of its type,
`.HostConfig.NanoCPUs` is found, and a field that is in no struct is an error (after which Docker's client, and inspect.py, try
once more with the JSON).

Source: moby (api/types/container, image, volume, network), printed with `docker inspect -f '{{printf "%#v" …}}'`.
"""

from __future__ import annotations

from engine.cli.gotemplate import jsontext, values
from engine.cli.gotemplate.values import List, Map, Nil, Pointer, Struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Each struct is a line with its name and one for each of its fields: name, type, and JSON's name where it is another. A type
# with `?` behind it is omitted from JSON if it is empty. A field without a name is embedded.
_STRUCTS = """\
container.InspectResponse
 *container.ContainerJSONBase
 Mounts []container.MountPoint
 Config *container.Config
 NetworkSettings *container.NetworkSettings
 ImageManifestDescriptor *v1.Descriptor?
container.ContainerJSONBase
 ID string Id
 Created string
 Path string
 Args []string
 State *container.State
 Image string
 ResolvConfPath string
 HostnamePath string
 HostsPath string
 LogPath string
 Name string
 RestartCount int
 Driver string
 Platform string
 MountLabel string
 ProcessLabel string
 AppArmorProfile string
 ExecIDs []string
 HostConfig *container.HostConfig
 GraphDriver storage.DriverData
 SizeRw *int64?
 SizeRootFs *int64?
container.State
 Status string
 Running bool
 Paused bool
 Restarting bool
 OOMKilled bool
 Dead bool
 Pid int
 ExitCode int
 Error string
 StartedAt string
 FinishedAt string
 Health *container.Health?
container.Health
 Status string
 FailingStreak int
 Log []*container.HealthcheckResult
container.HealthcheckResult
 Start time.Time
 End time.Time
 ExitCode int
 Output string
container.MountPoint
 Type mount.Type?
 Name string?
 Source string
 Destination string
 Driver string?
 Mode string
 RW bool
 Propagation mount.Propagation
container.Config
 Hostname string
 Domainname string
 User string
 AttachStdin bool
 AttachStdout bool
 AttachStderr bool
 ExposedPorts nat.PortSet?
 Tty bool
 OpenStdin bool
 StdinOnce bool
 Env []string
 Cmd strslice.StrSlice
 Healthcheck *v1.HealthcheckConfig?
 ArgsEscaped bool?
 Image string
 Volumes map[string]struct{}
 WorkingDir string
 Entrypoint strslice.StrSlice
 NetworkDisabled bool?
 MacAddress string?
 OnBuild []string
 Labels map[string]string
 StopSignal string?
 StopTimeout *int?
 Shell strslice.StrSlice?
v1.HealthcheckConfig
 Test []string?
 Interval time.Duration?
 Timeout time.Duration?
 StartPeriod time.Duration?
 StartInterval time.Duration?
 Retries int?
container.HostConfig
 Binds []string
 ContainerIDFile string
 LogConfig container.LogConfig
 NetworkMode container.NetworkMode
 PortBindings nat.PortMap
 RestartPolicy container.RestartPolicy
 AutoRemove bool
 VolumeDriver string
 VolumesFrom []string
 ConsoleSize [2]uint
 Annotations map[string]string?
 CapAdd strslice.StrSlice
 CapDrop strslice.StrSlice
 CgroupnsMode container.CgroupnsMode
 DNS []string Dns
 DNSOptions []string DnsOptions
 DNSSearch []string DnsSearch
 ExtraHosts []string
 GroupAdd []string
 IpcMode container.IpcMode
 Cgroup container.CgroupSpec
 Links []string
 OomScoreAdj int
 PidMode container.PidMode
 Privileged bool
 PublishAllPorts bool
 ReadonlyRootfs bool
 SecurityOpt []string
 StorageOpt map[string]string?
 Tmpfs map[string]string?
 UTSMode container.UTSMode
 UsernsMode container.UsernsMode
 ShmSize int64
 Sysctls map[string]string?
 Runtime string?
 Isolation container.Isolation
 container.Resources
 Mounts []mount.Mount?
 MaskedPaths []string
 ReadonlyPaths []string
 Init *bool?
container.LogConfig
 Type string
 Config map[string]string
container.RestartPolicy
 Name container.RestartPolicyMode
 MaximumRetryCount int
container.Resources
 CPUShares int64 CpuShares
 Memory int64
 NanoCPUs int64 NanoCpus
 CgroupParent string
 BlkioWeight uint16
 BlkioWeightDevice []*blkiodev.WeightDevice
 BlkioDeviceReadBps []*blkiodev.ThrottleDevice
 BlkioDeviceWriteBps []*blkiodev.ThrottleDevice
 BlkioDeviceReadIOps []*blkiodev.ThrottleDevice
 BlkioDeviceWriteIOps []*blkiodev.ThrottleDevice
 CPUPeriod int64 CpuPeriod
 CPUQuota int64 CpuQuota
 CPURealtimePeriod int64 CpuRealtimePeriod
 CPURealtimeRuntime int64 CpuRealtimeRuntime
 CpusetCpus string
 CpusetMems string
 Devices []container.DeviceMapping
 DeviceCgroupRules []string
 DeviceRequests []container.DeviceRequest
 KernelMemory int64?
 KernelMemoryTCP int64?
 MemoryReservation int64
 MemorySwap int64
 MemorySwappiness *int64
 OomKillDisable *bool
 PidsLimit *int64
 Ulimits []*units.Ulimit
 CPUCount int64 CpuCount
 CPUPercent int64 CpuPercent
 IOMaximumIOps uint64
 IOMaximumBandwidth uint64
blkiodev.WeightDevice
 Path string
 Weight uint16
blkiodev.ThrottleDevice
 Path string
 Rate uint64
container.DeviceMapping
 PathOnHost string
 PathInContainer string
 CgroupPermissions string
container.DeviceRequest
 Driver string
 Count int
 DeviceIDs []string
 Capabilities [][]string
 Options map[string]string
units.Ulimit
 Name string
 Hard int64
 Soft int64
mount.Mount
 Type mount.Type?
 Source string?
 Target string?
 ReadOnly bool?
 Consistency mount.Consistency?
 BindOptions *mount.BindOptions?
 VolumeOptions *mount.VolumeOptions?
 ImageOptions *mount.ImageOptions?
 TmpfsOptions *mount.TmpfsOptions?
 ClusterOptions *mount.ClusterOptions?
mount.BindOptions
 Propagation mount.Propagation?
 NonRecursive bool?
 CreateMountpoint bool?
 ReadOnlyNonRecursive bool?
 ReadOnlyForceRecursive bool?
mount.VolumeOptions
 NoCopy bool?
 Labels map[string]string?
 Subpath string?
 DriverConfig *mount.Driver?
mount.Driver
 Name string?
 Options map[string]string?
mount.ImageOptions
 Subpath string?
mount.TmpfsOptions
 SizeBytes int64?
 Mode os.FileMode?
 Options [][]string?
mount.ClusterOptions
storage.DriverData
 Data map[string]string
 Name string
container.NetworkSettings
 container.NetworkSettingsBase
 container.DefaultNetworkSettings
 Networks map[string]*network.EndpointSettings
container.NetworkSettingsBase
 Bridge string
 SandboxID string
 SandboxKey string
 Ports nat.PortMap
 HairpinMode bool
 LinkLocalIPv6Address string
 LinkLocalIPv6PrefixLen int
 SecondaryIPAddresses []network.Address
 SecondaryIPv6Addresses []network.Address
container.DefaultNetworkSettings
 EndpointID string
 Gateway string
 GlobalIPv6Address string
 GlobalIPv6PrefixLen int
 IPAddress string
 IPPrefixLen int
 IPv6Gateway string
 MacAddress string
network.Address
 Addr string
 PrefixLen int
network.EndpointSettings
 IPAMConfig *network.EndpointIPAMConfig
 Links []string
 Aliases []string
 MacAddress string
 DriverOpts map[string]string
 GwPriority int
 NetworkID string
 EndpointID string
 Gateway string
 IPAddress string
 IPPrefixLen int
 IPv6Gateway string
 GlobalIPv6Address string
 GlobalIPv6PrefixLen int
 DNSNames []string
network.EndpointIPAMConfig
 IPv4Address string?
 IPv6Address string?
 LinkLocalIPs []string?
nat.PortBinding
 HostIP string HostIp
 HostPort string
image.InspectResponse
 ID string Id
 RepoTags []string
 RepoDigests []string
 Parent string
 Comment string
 Created string?
 Container string?
 ContainerConfig *container.Config?
 DockerVersion string
 Author string
 Config *v1.DockerOCIImageConfig
 Architecture string
 Variant string?
 Os string
 OsVersion string?
 Size int64
 VirtualSize int64?
 GraphDriver storage.DriverData
 RootFS image.RootFS
 Metadata image.Metadata
 Descriptor *v1.Descriptor?
 Manifests []image.ManifestSummary?
v1.DockerOCIImageConfig
 v1.ImageConfig
 v1.DockerOCIImageConfigExt
v1.ImageConfig
 User string?
 ExposedPorts map[string]struct{}?
 Env []string?
 Entrypoint []string?
 Cmd []string?
 Volumes map[string]struct{}?
 WorkingDir string?
 Labels map[string]string?
 StopSignal string?
 ArgsEscaped bool?
v1.DockerOCIImageConfigExt
 Healthcheck *v1.HealthcheckConfig?
 OnBuild []string?
 Shell []string?
v1.Descriptor
 MediaType string mediaType
 Digest digest.Digest digest
 Size int64 size
image.ManifestSummary
 ID string
image.RootFS
 Type string?
 Layers []string?
image.Metadata
 LastTagTime time.Time
volume.Volume
 ClusterVolume *volume.ClusterVolume?
 CreatedAt string?
 Driver string
 Labels map[string]string
 Mountpoint string
 Name string
 Options map[string]string
 Scope string
 Status map[string]interface{}?
 UsageData *volume.UsageData?
volume.ClusterVolume
 ID string
volume.UsageData
 RefCount int64
 Size int64
network.Inspect
 Name string
 ID string Id
 Created time.Time
 Scope string
 Driver string
 EnableIPv4 bool
 EnableIPv6 bool
 IPAM network.IPAM
 Internal bool
 Attachable bool
 Ingress bool
 ConfigFrom network.ConfigReference
 ConfigOnly bool
 Containers map[string]network.EndpointResource
 Options map[string]string
 Labels map[string]string
 Peers []network.PeerInfo?
 Services map[string]network.ServiceInfo?
network.IPAM
 Driver string
 Options map[string]string
 Config []network.IPAMConfig
network.IPAMConfig
 Subnet string?
 IPRange string?
 Gateway string?
 AuxAddress map[string]string? AuxiliaryAddresses
network.ConfigReference
 Network string
network.EndpointResource
 Name string
 EndpointID string
 MacAddress string
 IPv4Address string
 IPv6Address string
network.PeerInfo
 Name string
 IP string
network.ServiceInfo
 VIP string
 Ports []string
"""
# What the names of other types stand for.
_NAMED = {
    "nat.PortSet": "map[string]struct{}",
    "nat.PortMap": "map[string][]nat.PortBinding",
    "strslice.StrSlice": "[]string",
    "[2]uint": "[]uint",
}
_INTEGERS = ("int", "int64", "uint", "uint16", "uint64", "time.Duration", "os.FileMode")
_ZERO_TIME = "0001-01-01T00:00:00Z"
_RESERVED = {"map[string]struct{}": "map[string]struct {}", "map[string]interface{}": "map[string]interface {}"}


class _Field:
    __slots__ = ("go_type", "is_embedded", "json", "name", "omits_empty")

    def __init__(self, words: list[str]) -> None:
        name, go_type = words[0], words[-1] if len(words) < 2 else words[1]
        self.is_embedded = len(words) == 1
        self.name = name.rpartition(".")[2] if self.is_embedded else name
        self.omits_empty = go_type.endswith("?")
        self.go_type = go_type.rstrip("?")
        self.json = words[2] if len(words) > 2 else self.name


def _read() -> dict[str, list[_Field]]:
    found: dict[str, list[_Field]] = {}
    for line in _STRUCTS.splitlines():
        if not line.startswith(" "):
            fields = found[line] = []
        else:
            fields.append(_Field(line.split()))
    return found


_FIELDS = _read()


def typed(go_type: str, value: Any) -> Any:
    """JSON's value as one of a Go type; None as the type's zero value."""
    if go_type.startswith("*"):
        return _pointer(go_type, value)
    if go_type in _FIELDS:
        return _struct(go_type, value or {}, go_type)
    if go_type == "time.Time":
        return _time(value or _ZERO_TIME)
    kind = _NAMED.get(go_type, go_type)
    if kind.startswith("[]"):
        made = List(typed(kind[2:], item) for item in value or ())
        made.is_nil = value is None
        made.go_type = go_type
        return made
    if kind.startswith("map[string]"):
        return _map(go_type, kind.removeprefix("map[string]"), value)
    if kind in _INTEGERS:
        number = int(value or 0)
        return number if kind == "int" else values.number(go_type, number)
    if kind in ("bool", "interface{}"):
        return bool(value) if kind == "bool" else value
    text = str(value or "")
    return text if kind == "string" else values.string(go_type, text)


def _pointer(go_type: str, value: Any) -> Any:
    pointed = go_type[1:]
    if value is None:
        return Nil(go_type, frozenset(_all_names(pointed)))
    if pointed in _FIELDS:
        return _struct(pointed, value, go_type)
    return Pointer(go_type, typed(pointed, value))


def _all_names(struct: str) -> list[str]:
    names = []
    for field in _FIELDS.get(struct, ()):
        names.append(field.name)
        if field.is_embedded:
            names += _all_names(field.go_type.lstrip("*"))
    return names


def _map(go_type: str, item: str, value: Any) -> Map:
    if item == "struct{}":
        made = Map({key: Struct("struct {}", {}) for key in value or ()})
    else:
        made = Map({key: typed(item, found) for key, found in (value or {}).items()})
    made.is_nil = value is None
    made.go_type = _RESERVED.get(go_type, go_type)
    made.zero = lambda: typed(item, None)  # type: ignore[method-assign]
    return made


def _struct(name: str, value: dict[str, Any], go_type: str) -> Struct:
    fields = {}
    for field in _FIELDS[name]:
        fields[field.name] = typed(field.go_type, value if field.is_embedded else value.get(field.json))
    embedded = tuple(field.name for field in _FIELDS[name] if field.is_embedded)
    text = f"{value['Name']}={value['Soft']}:{value['Hard']}" if name == "units.Ulimit" else None
    made = Struct(go_type, fields, embedded=embedded, text=text)
    made.json = lambda: _json(name, made, value)
    return made


def _json(name: str, struct: Struct, source: dict[str, Any]) -> str:
    """Its fields in order, those of embedded structs in their place, and at the end what is mini's own."""
    pairs = _pairs(name, struct)
    known = {key for key, _ in pairs}
    pairs += [(key, jsontext.compact(value)) for key, value in source.items() if key not in known | _omitted(name)]
    return "{" + ",".join(f"{jsontext.compact(key)}:{text}" for key, text in pairs) + "}"


def _pairs(name: str, struct: Struct) -> list[tuple[str, str]]:
    pairs = []
    for field in _FIELDS[name]:
        value = struct.fields[field.name]
        if field.is_embedded:
            pairs += _pairs(field.go_type.lstrip("*"), value)
        elif not (field.omits_empty and not values.is_true(value)):
            pairs.append((field.json, jsontext.compact(value)))
    return pairs


def _omitted(name: str) -> set[str]:
    found = set()
    for field in _FIELDS[name]:
        found |= _omitted(field.go_type.lstrip("*")) if field.is_embedded else {field.json}
    return found


def _time(text: str) -> Struct:
    """time.Time, which prints as `2026-11-24 08:47:24.726274034 +0000 UTC`."""
    day, _, clock = text.partition("T")
    shown = (
        f"{day} {clock.removesuffix('Z')} +0000 UTC" if clock.endswith("Z") else f"{day} {clock[:-6]} {_zone(clock)}"
    )
    return Struct("time.Time", {}, json=lambda: jsontext.compact(text), text=shown)


def _zone(clock: str) -> str:
    zone = clock[-6:].replace(":", "")
    return f"{zone} {zone}"
