"""The image store: names in every spelling, Docker's rules of removal, and a SIGKILL at every step."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from engine.errors import Conflict, IntegrityError, InvalidReference, MiniError, NotFound, RegistryError
from engine.paths import Paths
from engine.storage.images import Image, ImageStore

RUNNING, STOPPED = ("c" * 64, True), ("d" * 64, False)


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Built:
    """An image's documents, and its layers as the store has them: `layers` are the tars' contents."""

    def __init__(
        self, *layers: str, salt: str = "", annotation: str = "", created: str = "2024-05-01T00:00:00Z"
    ) -> None:
        self.tars = [layer.encode() for layer in layers]
        self.diff_ids = [digest(tar) for tar in self.tars]
        rootfs = {"type": "layers", "diff_ids": self.diff_ids}
        config = {"architecture": "amd64", "os": "linux", "created": created, "salt": salt, "rootfs": rootfs}
        self.config = json.dumps(config).encode()
        self.id = digest(self.config)
        media = "application/vnd.oci.image"
        manifest = {
            "schemaVersion": 2,
            "mediaType": f"{media}.manifest.v1+json",
            "config": {"mediaType": f"{media}.config.v1+json", "digest": self.id, "size": len(self.config)},
            "layers": [
                {"mediaType": f"{media}.layer.v1.tar", "digest": d, "size": len(t)}
                for d, t in zip(self.diff_ids, self.tars, strict=True)
            ],
            "annotations": {"x": annotation},
        }
        self.manifest = json.dumps(manifest).encode()
        self.manifest_digest = digest(self.manifest)

    def store_layers(self, paths: Paths) -> None:
        for diff_id, tar in zip(self.diff_ids, self.tars, strict=True):
            os.makedirs(paths.layers, exist_ok=True)
            Path(paths.layer(diff_id)).write_bytes(tar)

    def put(self, store: ImageStore, tag: str | None = None, repo_digest: str | None = None) -> Image:
        self.store_layers(store.paths)
        size = sum(map(len, self.tars))
        return store.put(self.manifest, self.config, tag=tag, repo_digest=repo_digest, size=size)


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(Paths(str(tmp_path / "root")))


def everything(paths: Paths) -> set[str]:
    """Every file of the data root but locks."""
    top = Path(paths.root)
    return {str(p.relative_to(top)) for p in top.rglob("*") if p.is_file() and "locks" not in p.parts}


# --- looking up ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spelling",
    ["alpine", "alpine:latest", "library/alpine", "docker.io/alpine", "index.docker.io/library/alpine:latest"],
)
def test_every_spelling_of_a_tag(store: ImageStore, spelling: str) -> None:
    built = Built("a")
    built.put(store, "docker.io/library/alpine:latest")
    assert store.resolve(spelling).id == built.id


def test_digest_reference_and_its_tag_is_ignored(store: ImageStore) -> None:
    built = Built("a")
    built.put(store, None, f"localhost:5000/a/b@{built.manifest_digest}")
    assert store.resolve(f"localhost:5000/a/b@{built.manifest_digest}").id == built.id
    assert store.resolve(f"localhost:5000/a/b:any@{built.manifest_digest}").id == built.id
    with pytest.raises(NotFound):
        store.resolve(f"localhost:5000/a/c@{built.manifest_digest}")


def test_ids_and_prefixes(store: ImageStore) -> None:
    image = Built("a").put(store)
    for name in (image.id, image.id[7:], image.id[:19], image.id[7:19]):
        assert store.resolve(name).id == image.id
    with pytest.raises(NotFound, match=f"^No such image: sha256:{'0' * 64}$"):
        store.resolve("0" * 64)


def test_a_name_comes_before_an_id_prefix(store: ImageStore) -> None:
    first, second = Built("a").put(store), Built("b").put(store)
    store.tag(second, first.id[7:12])
    assert store.resolve(first.id[7:12]).id == second.id


def test_an_ambiguous_prefix_is_no_name(store: ImageStore) -> None:
    images = [Built("a", salt=str(n)).put(store) for n in range(17)]
    firsts = [i.id[7] for i in images]
    twice = next(c for c in firsts if firsts.count(c) > 1)
    with pytest.raises(NotFound, match=f"^No such image: {twice}:latest$") as caught:
        store.resolve(twice)
    assert caught.value.hint and twice in caught.value.hint


def test_what_is_not_there(store: ImageStore) -> None:
    with pytest.raises(NotFound, match="^No such image: nosuch:latest$"):
        store.resolve("nosuch")
    assert store.find("nosuch") is None and store.list_() == []
    with pytest.raises(InvalidReference):
        store.resolve("Upper")


def test_what_an_image_says(store: ImageStore) -> None:
    built = Built("one", "two")
    built.put(store, "alpine", f"alpine@{built.manifest_digest}")
    image = store.resolve("alpine")
    assert image.config["rootfs"]["diff_ids"] == image.diff_ids == built.diff_ids
    assert image.chain_id == digest(f"{built.diff_ids[0]} {built.diff_ids[1]}".encode())
    assert (image.size, image.created, image.manifest_digest) == (6, "2024-05-01T00:00:00Z", built.manifest_digest)
    assert image.tags == ["docker.io/library/alpine:latest"]
    assert image.repo_digests == [f"docker.io/library/alpine@{built.manifest_digest}"]


def test_the_list_has_the_newest_first(store: ImageStore) -> None:
    old, new = Built("a", created="2020-01-01T00:00:00Z"), Built("a", created="2024-01-01T00:00:00Z")
    old.put(store, "old"), new.put(store, "new")
    assert [i.id for i in store.list_()] == [new.id, old.id]


def test_the_longest_names(store: ImageStore) -> None:
    """255 characters of path and 128 of tag are valid, but make no file name."""
    names = [f"{'a/' * 120}{n}:{'t' * 128}" for n in ("x", "y")]
    image = Built("a").put(store, names[0])
    store.tag(image, names[1])
    assert len(store.resolve(names[0]).tags) == 2
    assert [e for e, _ in store.remove(names[0])] == ["Untagged"]
    assert store.resolve(names[1]).tags == [f"docker.io/{names[1]}"]


# --- adding ----------------------------------------------------------------------------------------------------------


def test_a_tag_moves_and_leaves_its_image_without_a_name(store: ImageStore) -> None:
    first, second = Built("a").put(store, "app"), Built("b").put(store, "app")
    assert store.resolve("app").id == second.id
    assert store.resolve(first.id).tags == []


def test_one_config_under_two_manifests(store: ImageStore) -> None:
    first, second = Built("a", annotation="1"), Built("a", annotation="2")
    first.put(store, "one"), second.put(store, "two")
    image = store.resolve("one")
    assert image.id == first.id == second.id and image.manifest_digest == second.manifest_digest
    store.remove("one"), store.remove("two")
    assert everything(store.paths) == set()


def test_documents_that_do_not_belong_together(store: ImageStore) -> None:
    one, other = Built("a"), Built("b", "c")
    one.store_layers(store.paths)
    with pytest.raises(IntegrityError, match="but its manifest says"):
        store.put(one.manifest, other.config, tag="x", repo_digest=None, size=1)
    short = json.loads(one.manifest)
    short["layers"] = []
    with pytest.raises(IntegrityError, match="0 layers, but its config 1"):
        store.put(json.dumps(short).encode(), one.config, tag="x", repo_digest=None, size=1)
    with pytest.raises(RegistryError):
        store.put(b"{}", one.config, tag="x", repo_digest=None, size=1)
    assert store.list_() == []


def test_a_layer_that_was_removed_meanwhile(store: ImageStore) -> None:
    built = Built("a")
    with pytest.raises(Conflict, match="was removed while its image was pulled"):
        store.put(built.manifest, built.config, tag="x", repo_digest=None, size=1)
    assert store.list_() == []


def test_a_damaged_blob_is_written_again(store: ImageStore) -> None:
    built = Built("a")
    built.put(store, "x")
    Path(store.paths.blob(built.id)).write_bytes(b"{}")
    built.put(store, "x")
    assert store.resolve("x").config["os"] == "linux"


# --- removing --------------------------------------------------------------------------------------------------------


def test_by_the_last_name_everything_goes(store: ImageStore) -> None:
    built = Built("one", "two")
    built.put(store, "alpine", f"alpine@{built.manifest_digest}")
    Path(store.paths.indexes).mkdir(parents=True)
    chain = store.resolve("alpine").chain_id
    Path(store.paths.index(chain)).write_bytes(b"")
    unmounted: list[str] = []
    assert store.remove("alpine", unmount=unmounted.append) == [
        ("Untagged", "alpine:latest"),
        ("Untagged", f"alpine@{built.manifest_digest}"),
        ("Deleted", built.id),
        ("Deleted", chain),
        ("Deleted", built.diff_ids[0]),
    ]
    assert unmounted == [chain]
    assert everything(store.paths) == set()


def test_by_one_of_several_names_only_the_name_goes(store: ImageStore) -> None:
    image = Built("a").put(store, "one")
    store.tag(image, "two")
    assert store.remove("one") == [("Untagged", "one:latest")]
    assert store.resolve("two").id == image.id


def test_a_shared_layer_stays(store: ImageStore) -> None:
    one, other = Built("base", "one"), Built("base", "other")
    one.put(store, "one"), other.put(store, "other")
    events = store.remove("one")
    assert [v for k, v in events if k == "Deleted"][1:] == [digest(" ".join(one.diff_ids).encode())]
    assert os.path.exists(store.paths.layer(one.diff_ids[0])) and not os.path.exists(store.paths.layer(one.diff_ids[1]))


def test_what_is_derived_goes_with_its_image_alone(store: ImageStore) -> None:
    """The index is of one image; the directories of lower stacks are shared with images on top of the same base."""
    base, top = Built("a"), Built("a", "b")
    images = [base.put(store, "base"), top.put(store, "top")]
    Path(store.paths.indexes).mkdir(parents=True)
    for image in images:
        Path(store.paths.index(image.chain_id)).write_bytes(b"")
        Path(store.paths.tree(image.chain_id)).mkdir(parents=True)
    store.remove("base")
    assert not os.path.exists(store.paths.index(images[0].chain_id)) and os.path.exists(
        store.paths.tree(images[0].chain_id)
    )
    store.remove("top")
    assert os.listdir(store.paths.trees) == os.listdir(store.paths.indexes) == []


@pytest.mark.parametrize("force", [False, True])
def test_by_id_with_names_in_two_repositories(store: ImageStore, force: bool) -> None:
    image = Built("a").put(store, "one")
    store.tag(image, "two")
    if force:
        kinds = [k for k, _ in store.remove(image.id[7:19], force=True)]
        assert kinds == ["Untagged", "Untagged", "Deleted", "Deleted"]
    else:
        with pytest.raises(Conflict) as caught:
            store.remove(image.id[7:19])
        assert caught.value.message == (
            f"conflict: unable to delete {image.short_id} (must be forced) - image is referenced in multiple repositories"
        )
        assert len(store.resolve("one").tags) == 2


@pytest.mark.parametrize(
    ("by_id", "users", "force", "message"),
    [
        (False, [STOPPED], False, 'unable to remove repository reference "app" (must force) - container dddddddddddd is '
         "using its referenced image {id}"),
        (False, [RUNNING], False, 'unable to remove repository reference "app" (must force) - container cccccccccccc is '
         "using its referenced image {id}"),
        (True, [STOPPED], False, "unable to delete {id} (must be forced) - image is being used by stopped container "
         "dddddddddddd"),
        (True, [STOPPED, RUNNING], False, "unable to delete {id} (cannot be forced) - image is being used by running "
         "container cccccccccccc"),
        (True, [RUNNING], True, "unable to delete {id} (cannot be forced) - image is being used by running container "
         "cccccccccccc"),
    ],
)  # fmt: skip
def test_an_image_in_use_is_refused(
    store: ImageStore, by_id: bool, users: list[tuple[str, bool]], force: bool, message: str
) -> None:
    image = Built("a").put(store, "app")
    before = everything(store.paths)
    with pytest.raises(Conflict) as caught:
        store.remove(image.id if by_id else "app", force, in_use=lambda i: users if i == image.id else [])
    assert caught.value.message == "conflict: " + message.format(id=image.short_id)
    assert everything(store.paths) == before


def test_forced_by_name_under_a_running_container_only_the_name_goes(store: ImageStore) -> None:
    image = Built("a").put(store, "app")
    assert store.remove("app", True, in_use=lambda _: [RUNNING]) == [("Untagged", "app:latest")]
    assert store.resolve(image.id).tags == []


def test_forced_under_a_stopped_container_its_layers_stay_until_it_is_gone(store: ImageStore) -> None:
    built = Built("a")
    built.put(store, "app")
    users: list[tuple[str, bool]] = [STOPPED]
    assert store.remove("app", True, in_use=lambda _: users) == [("Untagged", "app:latest"), ("Deleted", built.id)]
    assert store.find("app") is None and store.find(built.id) is None and store.list_() == []
    store.finish_removals(in_use=lambda _: users)
    assert os.path.exists(store.paths.layer(built.diff_ids[0]))
    users.clear()
    store.finish_removals(in_use=lambda _: users)
    assert everything(store.paths) == set()


def test_an_image_pulled_again_while_its_removal_waits(store: ImageStore) -> None:
    built = Built("a")
    built.put(store, "app")
    store.remove("app", True, in_use=lambda _: [STOPPED])
    built.put(store, "app")
    store.finish_removals()
    check_whole(store)
    assert store.resolve("app").config["os"] == "linux"


# --- killed, and at once ---------------------------------------------------------------------------------------------

STEPS = ("open", "write", "fsync", "rename", "unlink", "rmdir", "mkdir")


def killed_at(step: int, operation: Callable[[], object]) -> bool:
    """Does it in a child that is killed before its `step`-th system call on files. False: it was over before."""
    child = os.fork()
    if child:
        return os.WIFSIGNALED(os.waitpid(child, 0)[1])
    count = 0

    def counted(call: Callable[..., object]) -> Callable[..., object]:
        def wrapper(*args: object, **kwargs: object) -> object:
            nonlocal count
            count += 1
            if count == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **kwargs)

        return wrapper

    for name in STEPS:
        setattr(os, name, counted(getattr(os, name)))
    try:
        operation()
    finally:
        os._exit(0)


def check_whole(store: ImageStore) -> None:
    """Whatever can be seen is complete and is what its name says."""
    images = {i.id: i for i in store.list_()}
    for image in images.values():
        for wanted, path in [(d, store.paths.blob(d)) for d in (image.id, *image.manifests)] + [
            (d, store.paths.layer(d)) for d in image.diff_ids
        ]:
            assert digest(Path(path).read_bytes()) == wanted
        for name in image.names:
            assert store.resolve(name).id == image.id
    assert set(store.names()) <= set(images)


def test_put_killed_at_every_step(tmp_path: Path) -> None:
    step, killed = 0, True
    while killed:
        step += 1
        store = ImageStore(Paths(str(tmp_path / str(step))))
        other, built = Built("base", "other"), Built("base", "new")
        other.put(store, "app")
        built.store_layers(store.paths)
        killed = killed_at(step, partial(built.put, store, "app", f"app@{built.manifest_digest}"))
        check_whole(store)
        assert store.resolve("app").id in (other.id, built.id)
        built.put(store, "app", f"app@{built.manifest_digest}")
        assert store.resolve("app").id == built.id
        store.remove("app"), store.remove(other.id)
        assert everything(store.paths) == set()
    assert step > 20


@pytest.mark.parametrize("by_id", [False, True])
def test_remove_killed_at_every_step(tmp_path: Path, by_id: bool) -> None:
    step, killed = 0, True
    while killed:
        step += 1
        store = ImageStore(Paths(str(tmp_path / str(step))))
        other, built = Built("base", "other"), Built("base", "new")
        other.put(store, "other")
        kept = everything(store.paths)
        built.put(store, "app", f"app@{built.manifest_digest}")
        name = built.id if by_id else "app"
        killed = killed_at(step, partial(store.remove, name))
        check_whole(store)
        if store.find(built.id):
            store.remove(built.id)
        else:
            store.finish_removals()
        assert everything(store.paths) == kept
        assert store.resolve("other").id == other.id
    assert step > 10


def test_pulls_and_removals_at_once(store: ImageStore) -> None:
    """Four processes over two images with a common layer: whatever they do to each other, what is seen is whole."""
    builds = [Built("base", "one"), Built("base", "two")]
    Built("base", "kept").put(store, "kept")
    children = []
    for number in range(4):
        child = os.fork()
        if not child:
            code = 1
            try:
                for turn in range(20):
                    built = builds[(number + turn) % 2]
                    try:
                        built.put(store, f"app{number}")
                        store.remove(f"app{number}")
                    except (Conflict, NotFound):
                        pass
                    Built("base", "kept").store_layers(store.paths)
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    assert [os.waitpid(c, 0)[1] for c in children] == [0, 0, 0, 0]
    check_whole(store)
    assert store.resolve("kept").tags == ["docker.io/library/kept:latest"]


def test_an_error_says_what_and_which(store: ImageStore) -> None:
    image = Built("a").put(store, "x")
    Path(store.paths.image(image.id)).write_bytes(b"{")
    with pytest.raises(MiniError, match=f"{image.id[7:]}.json is damaged"):
        store.resolve("x")
