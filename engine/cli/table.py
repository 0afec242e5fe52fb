"""The command line as data, derived from the Typer application: `python -m engine.cli.derive` writes this file.

COMMANDS: path -> (target, arguments of the usage line, options after arguments?, arguments, options, aliases).
An argument is (name, required, many); an option (name, kind, many, default, spellings), kind "" for a flag.
"""

# fmt: off
from __future__ import annotations

COMMANDS: dict[str, tuple] = {  # type: ignore[type-arg]
    '': (
        '', 'COMMAND', False, (),
        (
            ('root', 'string', False, None, ('--root',)),
            ('storage_driver', 'string', False, None, ('--storage-driver',)),
            ('debug', '', False, False, ('-D', '--debug')),
            ('version', '', False, False, ('-v', '--version')),
        ),
        (),
    ),
    'attach': (
        'attach:main', 'CONTAINER', True, (('container', True, False),),
        (
            ('detach_keys', 'string', False, None, ('--detach-keys',)),
            ('no_stdin', '', False, False, ('--no-stdin',)),
            ('sig_proxy', '', False, True, ('--sig-proxy',)),
        ),
        ('attach', 'container attach'),
    ),
    'commit': (
        'changes:commit', 'CONTAINER [REPOSITORY[:TAG]]', True, (('container', True, False), ('reference', False, False)),
        (
            ('author', 'string', False, '', ('-a', '--author')),
            ('change', 'list', True, None, ('-c', '--change')),
            ('message', 'string', False, '', ('-m', '--message')),
            ('pause', '', False, True, ('-p', '--pause')),
        ),
        ('commit', 'container commit'),
    ),
    'container inspect': (
        'inspect:containers', 'CONTAINER [CONTAINER...]', True, (('names', True, True),),
        (
            ('format', 'string', False, None, ('-f', '--format')),
            ('size', '', False, False, ('-s', '--size')),
        ),
        ('container inspect',),
    ),
    'container prune': (
        'prune:containers', '', True, (),
        (
            ('filter', 'filter', True, None, ('--filter',)),
            ('force', '', False, False, ('-f', '--force')),
        ),
        ('container prune',),
    ),
    'cp': (
        'cp:main', 'CONTAINER:SRC_PATH DEST_PATH|-', True, (('source', True, False), ('destination', True, False)),
        (
            ('archive', '', False, False, ('-a', '--archive')),
            ('follow_link', '', False, False, ('-L', '--follow-link')),
            ('quiet', '', False, False, ('-q', '--quiet')),
        ),
        ('cp', 'container cp'),
    ),
    'create': (
        'run:create', 'IMAGE [COMMAND] [ARG...]', False, (('image', True, False), ('command', False, True)),
        (
            ('extra_hosts', 'list', True, None, ('--add-host',)),
            ('annotations', 'map', True, None, ('--annotation',)),
            ('attach', 'list', True, None, ('-a', '--attach')),
            ('cap_add', 'list', True, None, ('--cap-add',)),
            ('cap_drop', 'list', True, None, ('--cap-drop',)),
            ('cidfile', 'string', False, None, ('--cidfile',)),
            ('cpu_shares', 'int', False, None, ('-c', '--cpu-shares')),
            ('cpus', 'decimal', False, None, ('--cpus',)),
            ('cpuset_cpus', 'string', False, None, ('--cpuset-cpus',)),
            ('dns', 'list', True, None, ('--dns',)),
            ('dns_options', 'list', True, None, ('--dns-option',)),
            ('dns_search', 'list', True, None, ('--dns-search',)),
            ('domainname', 'string', False, None, ('--domainname',)),
            ('entrypoint', 'string', False, None, ('--entrypoint',)),
            ('env', 'list', True, None, ('-e', '--env')),
            ('env_files', 'list', True, None, ('--env-file',)),
            ('group_add', 'list', True, None, ('--group-add',)),
            ('health_cmd', 'string', False, None, ('--health-cmd',)),
            ('health_interval', 'duration', False, None, ('--health-interval',)),
            ('health_on_failure', 'string', False, 'none', ('--health-on-failure',)),
            ('health_retries', 'int', False, None, ('--health-retries',)),
            ('health_start_interval', 'duration', False, None, ('--health-start-interval',)),
            ('health_start_period', 'duration', False, None, ('--health-start-period',)),
            ('health_timeout', 'duration', False, None, ('--health-timeout',)),
            ('hostname', 'string', False, None, ('-h', '--hostname')),
            ('init', '', False, False, ('--init',)),
            ('interactive', '', False, False, ('-i', '--interactive')),
            ('labels', 'list', True, None, ('-l', '--label')),
            ('memory', 'bytes', False, None, ('-m', '--memory')),
            ('memory_reservation', 'bytes', False, None, ('--memory-reservation',)),
            ('memory_swap', 'bytes', False, None, ('--memory-swap',)),
            ('name', 'string', False, None, ('--name',)),
            ('network', 'network', False, None, ('--network', '--net')),
            ('no_healthcheck', '', False, False, ('--no-healthcheck',)),
            ('oom_kill_disable', '', False, False, ('--oom-kill-disable',)),
            ('oom_score_adj', 'int', False, None, ('--oom-score-adj',)),
            ('pids_limit', 'int', False, None, ('--pids-limit',)),
            ('platform', 'string', False, None, ('--platform',)),
            ('privileged', '', False, False, ('--privileged',)),
            ('pull', 'string', False, 'missing', ('--pull',)),
            ('quiet', '', False, False, ('-q', '--quiet')),
            ('read_only', '', False, False, ('--read-only',)),
            ('remove', '', False, False, ('--rm',)),
            ('restart', 'string', False, 'no', ('--restart',)),
            ('security_opt', 'list', True, None, ('--security-opt',)),
            ('shm_size', 'bytes', False, None, ('--shm-size',)),
            ('stop_signal', 'string', False, None, ('--stop-signal',)),
            ('stop_timeout', 'int', False, None, ('--stop-timeout',)),
            ('sysctls', 'map', True, None, ('--sysctl',)),
            ('tmpfs', 'list', True, None, ('--tmpfs',)),
            ('tty', '', False, False, ('-t', '--tty')),
            ('ulimits', 'ulimit', True, None, ('--ulimit',)),
            ('user', 'string', False, None, ('-u', '--user')),
            ('volumes', 'list', True, None, ('-v', '--volume')),
            ('workdir', 'string', False, None, ('-w', '--workdir')),
        ),
        ('create', 'container create'),
    ),
    'demo': (
        'demo:main', '', True, (),
        (
        ),
        ('demo',),
    ),
    'diff': (
        'changes:diff', 'CONTAINER', True, (('container', True, False),),
        (
        ),
        ('diff', 'container diff'),
    ),
    'events': (
        'events:main', '', True, (),
        (
            ('filter', 'filter', True, None, ('-f', '--filter')),
            ('format', 'string', False, None, ('--format',)),
            ('since', 'string', False, None, ('--since',)),
            ('until', 'string', False, None, ('--until',)),
        ),
        ('events', 'system events'),
    ),
    'exec': (
        'exec:main', 'CONTAINER COMMAND [ARG...]', False, (('container', True, False), ('command', True, True)),
        (
            ('detach', '', False, False, ('-d', '--detach')),
            ('detach_keys', 'string', False, None, ('--detach-keys',)),
            ('env', 'list', True, None, ('-e', '--env')),
            ('env_files', 'list', True, None, ('--env-file',)),
            ('interactive', '', False, False, ('-i', '--interactive')),
            ('privileged', '', False, False, ('--privileged',)),
            ('tty', '', False, False, ('-t', '--tty')),
            ('user', 'string', False, None, ('-u', '--user')),
            ('workdir', 'string', False, None, ('-w', '--workdir')),
        ),
        ('exec', 'container exec'),
    ),
    'export': (
        'export:main', 'CONTAINER', True, (('container', True, False),),
        (
            ('output', 'string', False, None, ('-o', '--output')),
        ),
        ('export', 'container export'),
    ),
    'fsck': (
        'fsck:main', '', True, (),
        (
            ('quiet', '', False, False, ('-q', '--quiet')),
            ('repair', '', False, False, ('--repair',)),
        ),
        ('fsck', 'system fsck'),
    ),
    'history': (
        'history:main', 'IMAGE', True, (('image', True, False),),
        (
            ('format', 'string', False, None, ('--format',)),
            ('human', '', False, True, ('-H', '--human')),
            ('no_trunc', '', False, False, ('--no-trunc',)),
            ('quiet', '', False, False, ('-q', '--quiet')),
        ),
        ('history', 'image history'),
    ),
    'image inspect': (
        'inspect:images', 'IMAGE [IMAGE...]', True, (('names', True, True),),
        (
            ('format', 'string', False, None, ('-f', '--format')),
        ),
        ('image inspect',),
    ),
    'image prune': (
        'prune:images', '', True, (),
        (
            ('all', '', False, False, ('-a', '--all')),
            ('filter', 'filter', True, None, ('--filter',)),
            ('force', '', False, False, ('-f', '--force')),
            ('keep_storage', 'bytes', False, None, ('--keep-storage',)),
            ('unused_for', 'duration', False, None, ('--unused-for',)),
        ),
        ('image prune',),
    ),
    'images': (
        'images:main', '[REPOSITORY[:TAG]]', True, (('repository', False, False),),
        (
            ('all', '', False, False, ('-a', '--all')),
            ('digests', '', False, False, ('--digests',)),
            ('format', 'string', False, None, ('--format',)),
            ('no_trunc', '', False, False, ('--no-trunc',)),
            ('quiet', '', False, False, ('-q', '--quiet')),
        ),
        ('images', 'image ls', 'image list'),
    ),
    'import': (
        'import_image:main', 'file|URL|- [REPOSITORY[:TAG]]', True, (('source', True, False), ('reference', False, False)),
        (
            ('changes', 'list', True, None, ('-c', '--change')),
            ('message', 'string', False, None, ('-m', '--message')),
            ('platform', 'string', False, None, ('--platform',)),
        ),
        ('import', 'image import'),
    ),
    'info': (
        'info:main', '', True, (),
        (
            ('format', 'string', False, None, ('-f', '--format')),
        ),
        ('info', 'system info'),
    ),
    'inspect': (
        'inspect:anything', 'NAME|ID [NAME|ID...]', True, (('names', True, True),),
        (
            ('format', 'string', False, None, ('-f', '--format')),
            ('size', '', False, False, ('-s', '--size')),
            ('type', 'string', False, None, ('--type',)),
        ),
        ('inspect',),
    ),
    'kill': (
        'lifecycle:kill', 'CONTAINER [CONTAINER...]', True, (('container', True, True),),
        (
            ('signal', 'string', False, 'KILL', ('-s', '--signal')),
        ),
        ('kill', 'container kill'),
    ),
    'load': (
        'load:main', '', True, (),
        (
            ('input', 'string', False, None, ('-i', '--input')),
            ('platform', 'string', False, None, ('--platform',)),
            ('quiet', '', False, False, ('-q', '--quiet')),
        ),
        ('load', 'image load'),
    ),
    'login': (
        'login:login', '[SERVER]', True, (('server', False, False),),
        (
            ('username', 'string', False, None, ('-u', '--username')),
            ('password', 'string', False, None, ('-p', '--password')),
            ('password_stdin', '', False, False, ('--password-stdin',)),
        ),
        ('login',),
    ),
    'logout': (
        'login:logout', '[SERVER]', True, (('server', False, False),),
        (
        ),
        ('logout',),
    ),
    'logs': (
        'logs:main', 'CONTAINER', True, (('container', True, False),),
        (
            ('follow', '', False, False, ('-f', '--follow')),
            ('since', 'string', False, None, ('--since',)),
            ('tail', 'string', False, 'all', ('-n', '--tail')),
            ('timestamps', '', False, False, ('-t', '--timestamps')),
            ('until', 'string', False, None, ('--until',)),
        ),
        ('logs', 'container logs'),
    ),
    'manifest inspect': (
        'manifest:inspect', 'MANIFEST', True, (('name', True, False),),
        (
            ('verbose', '', False, False, ('-v', '--verbose')),
        ),
        ('manifest inspect',),
    ),
    'network inspect': (
        'inspect:networks', 'NETWORK [NETWORK...]', True, (('names', True, True),),
        (
            ('format', 'string', False, None, ('-f', '--format')),
        ),
        ('network inspect',),
    ),
    'network ls': (
        'network:list_', '', True, (),
        (
            ('format', 'string', False, None, ('--format',)),
            ('no_trunc', '', False, False, ('--no-trunc',)),
            ('quiet', '', False, False, ('-q', '--quiet')),
        ),
        ('network ls', 'network list'),
    ),
    'pause': (
        'lifecycle:pause', 'CONTAINER [CONTAINER...]', True, (('container', True, True),),
        (
        ),
        ('pause', 'container pause'),
    ),
    'port': (
        'port:main', 'CONTAINER [PRIVATE_PORT[/PROTO]]', True, (('container', True, False), ('private_port', False, False)),
        (
        ),
        ('port', 'container port'),
    ),
    'ps': (
        'ps:main', '', True, (),
        (
            ('all', '', False, False, ('-a', '--all')),
            ('filter', 'filter', True, None, ('-f', '--filter')),
            ('format', 'string', False, None, ('--format',)),
            ('last', 'int', False, '-1', ('-n', '--last')),
            ('latest', '', False, False, ('-l', '--latest')),
            ('no_trunc', '', False, False, ('--no-trunc',)),
            ('quiet', '', False, False, ('-q', '--quiet')),
            ('size', '', False, False, ('-s', '--size')),
        ),
        ('ps', 'container ls', 'container list', 'container ps'),
    ),
    'pull': (
        'pull:main', 'NAME[:TAG|@DIGEST]', True, (('name', True, False),),
        (
            ('all_tags', '', False, False, ('-a', '--all-tags')),
            ('platform', 'string', False, None, ('--platform',)),
            ('quiet', '', False, False, ('-q', '--quiet')),
        ),
        ('pull', 'image pull'),
    ),
    'push': (
        'push:main', 'NAME[:TAG]', True, (('name', True, False),),
        (
            ('all_tags', '', False, False, ('-a', '--all-tags')),
            ('quiet', '', False, False, ('-q', '--quiet')),
        ),
        ('push', 'image push'),
    ),
    'registry serve': (
        'registry:serve', '', True, (),
        (
            ('root', 'string', False, None, ('--root',)),
            ('host', 'string', False, '127.0.0.1', ('--host',)),
            ('port', 'int', False, '5000', ('--port',)),
            ('verbose', '', False, False, ('-v', '--verbose')),
        ),
        ('registry serve',),
    ),
    'rename': (
        'rename:main', 'CONTAINER NEW_NAME', True, (('container', True, False), ('new_name', True, False)),
        (
        ),
        ('rename', 'container rename'),
    ),
    'restart': (
        'lifecycle:restart', 'CONTAINER [CONTAINER...]', True, (('container', True, True),),
        (
            ('signal', 'string', False, None, ('-s', '--signal')),
            ('timeout', 'int', False, None, ('-t', '--timeout', '--time')),
        ),
        ('restart', 'container restart'),
    ),
    'rm': (
        'lifecycle:rm', 'CONTAINER [CONTAINER...]', True, (('container', True, True),),
        (
            ('force', '', False, False, ('-f', '--force')),
            ('volumes', '', False, False, ('-v', '--volumes')),
        ),
        ('rm', 'container rm', 'container remove'),
    ),
    'rmi': (
        'rmi:main', 'IMAGE [IMAGE...]', True, (('image', True, True),),
        (
            ('force', '', False, False, ('-f', '--force')),
        ),
        ('rmi', 'image rm', 'image remove'),
    ),
    'run': (
        'run:main', 'IMAGE [COMMAND] [ARG...]', False, (('image', True, False), ('command', False, True)),
        (
            ('extra_hosts', 'list', True, None, ('--add-host',)),
            ('annotations', 'map', True, None, ('--annotation',)),
            ('attach', 'list', True, None, ('-a', '--attach')),
            ('cap_add', 'list', True, None, ('--cap-add',)),
            ('cap_drop', 'list', True, None, ('--cap-drop',)),
            ('cidfile', 'string', False, None, ('--cidfile',)),
            ('cpu_shares', 'int', False, None, ('-c', '--cpu-shares')),
            ('cpus', 'decimal', False, None, ('--cpus',)),
            ('cpuset_cpus', 'string', False, None, ('--cpuset-cpus',)),
            ('dns', 'list', True, None, ('--dns',)),
            ('dns_options', 'list', True, None, ('--dns-option',)),
            ('dns_search', 'list', True, None, ('--dns-search',)),
            ('domainname', 'string', False, None, ('--domainname',)),
            ('entrypoint', 'string', False, None, ('--entrypoint',)),
            ('env', 'list', True, None, ('-e', '--env')),
            ('env_files', 'list', True, None, ('--env-file',)),
            ('group_add', 'list', True, None, ('--group-add',)),
            ('health_cmd', 'string', False, None, ('--health-cmd',)),
            ('health_interval', 'duration', False, None, ('--health-interval',)),
            ('health_on_failure', 'string', False, 'none', ('--health-on-failure',)),
            ('health_retries', 'int', False, None, ('--health-retries',)),
            ('health_start_interval', 'duration', False, None, ('--health-start-interval',)),
            ('health_start_period', 'duration', False, None, ('--health-start-period',)),
            ('health_timeout', 'duration', False, None, ('--health-timeout',)),
            ('hostname', 'string', False, None, ('-h', '--hostname')),
            ('init', '', False, False, ('--init',)),
            ('interactive', '', False, False, ('-i', '--interactive')),
            ('labels', 'list', True, None, ('-l', '--label')),
            ('memory', 'bytes', False, None, ('-m', '--memory')),
            ('memory_reservation', 'bytes', False, None, ('--memory-reservation',)),
            ('memory_swap', 'bytes', False, None, ('--memory-swap',)),
            ('name', 'string', False, None, ('--name',)),
            ('network', 'network', False, None, ('--network', '--net')),
            ('no_healthcheck', '', False, False, ('--no-healthcheck',)),
            ('oom_kill_disable', '', False, False, ('--oom-kill-disable',)),
            ('oom_score_adj', 'int', False, None, ('--oom-score-adj',)),
            ('pids_limit', 'int', False, None, ('--pids-limit',)),
            ('platform', 'string', False, None, ('--platform',)),
            ('privileged', '', False, False, ('--privileged',)),
            ('pull', 'string', False, 'missing', ('--pull',)),
            ('quiet', '', False, False, ('-q', '--quiet')),
            ('read_only', '', False, False, ('--read-only',)),
            ('remove', '', False, False, ('--rm',)),
            ('restart', 'string', False, 'no', ('--restart',)),
            ('security_opt', 'list', True, None, ('--security-opt',)),
            ('shm_size', 'bytes', False, None, ('--shm-size',)),
            ('stop_signal', 'string', False, None, ('--stop-signal',)),
            ('stop_timeout', 'int', False, None, ('--stop-timeout',)),
            ('sysctls', 'map', True, None, ('--sysctl',)),
            ('tmpfs', 'list', True, None, ('--tmpfs',)),
            ('tty', '', False, False, ('-t', '--tty')),
            ('ulimits', 'ulimit', True, None, ('--ulimit',)),
            ('user', 'string', False, None, ('-u', '--user')),
            ('volumes', 'list', True, None, ('-v', '--volume')),
            ('workdir', 'string', False, None, ('-w', '--workdir')),
            ('detach', '', False, False, ('-d', '--detach')),
            ('detach_keys', 'string', False, None, ('--detach-keys',)),
            ('sig_proxy', '', False, True, ('--sig-proxy',)),
            ('wait', '', False, False, ('--wait',)),
        ),
        ('run', 'container run'),
    ),
    'save': (
        'save:main', 'IMAGE [IMAGE...]', True, (('image', True, True),),
        (
            ('output', 'string', False, None, ('-o', '--output')),
        ),
        ('save', 'image save'),
    ),
    'search': (
        'search:main', 'TERM', True, (('term', True, False),),
        (
            ('filter', 'filter', True, None, ('-f', '--filter')),
            ('format', 'string', False, None, ('--format',)),
            ('limit', 'int', False, '25', ('--limit',)),
            ('no_trunc', '', False, False, ('--no-trunc',)),
        ),
        ('search',),
    ),
    'start': (
        'start:main', 'CONTAINER [CONTAINER...]', True, (('container', True, True),),
        (
            ('attach', '', False, False, ('-a', '--attach')),
            ('detach_keys', 'string', False, None, ('--detach-keys',)),
            ('interactive', '', False, False, ('-i', '--interactive')),
        ),
        ('start', 'container start'),
    ),
    'stats': (
        'stats:main', '[CONTAINER...]', True, (('container', False, True),),
        (
            ('all', '', False, False, ('-a', '--all')),
            ('format', 'string', False, None, ('--format',)),
            ('no_stream', '', False, False, ('--no-stream',)),
            ('no_trunc', '', False, False, ('--no-trunc',)),
        ),
        ('stats', 'container stats'),
    ),
    'stop': (
        'lifecycle:stop', 'CONTAINER [CONTAINER...]', True, (('container', True, True),),
        (
            ('signal', 'string', False, None, ('-s', '--signal')),
            ('timeout', 'int', False, None, ('-t', '--timeout', '--time')),
        ),
        ('stop', 'container stop'),
    ),
    'system df': (
        'df:main', '', True, (),
        (
            ('format', 'string', False, None, ('--format',)),
            ('verbose', '', False, False, ('-v', '--verbose')),
        ),
        ('system df',),
    ),
    'system install': (
        'boot:install', '', True, (),
        (
        ),
        ('system install',),
    ),
    'system prune': (
        'prune:system', '', True, (),
        (
            ('all', '', False, False, ('-a', '--all')),
            ('filter', 'filter', True, None, ('--filter',)),
            ('force', '', False, False, ('-f', '--force')),
            ('volumes', '', False, False, ('--volumes',)),
        ),
        ('system prune',),
    ),
    'system start': (
        'boot:start', '', True, (),
        (
        ),
        ('system start',),
    ),
    'tag': (
        'tag:main', 'SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]', True, (('source', True, False), ('target', True, False)),
        (
        ),
        ('tag', 'image tag'),
    ),
    'top': (
        'top:main', 'CONTAINER [ps OPTIONS]', False, (('container', True, False), ('ps_options', False, True)),
        (
        ),
        ('top', 'container top'),
    ),
    'unpause': (
        'lifecycle:unpause', 'CONTAINER [CONTAINER...]', True, (('container', True, True),),
        (
        ),
        ('unpause', 'container unpause'),
    ),
    'update': (
        'update:main', 'CONTAINER [CONTAINER...]', True, (('container', True, True),),
        (
            ('cpu_shares', 'int', False, None, ('-c', '--cpu-shares')),
            ('cpus', 'decimal', False, None, ('--cpus',)),
            ('cpuset_cpus', 'string', False, None, ('--cpuset-cpus',)),
            ('memory', 'bytes', False, None, ('-m', '--memory')),
            ('memory_reservation', 'bytes', False, None, ('--memory-reservation',)),
            ('memory_swap', 'bytes', False, None, ('--memory-swap',)),
            ('pids_limit', 'int', False, None, ('--pids-limit',)),
            ('restart', 'string', False, None, ('--restart',)),
        ),
        ('update', 'container update'),
    ),
    'version': (
        'version:main', '', True, (),
        (
            ('format', 'string', False, None, ('-f', '--format')),
        ),
        ('version',),
    ),
    'volume create': (
        'volume:create', '[VOLUME]', True, (('name', False, False),),
        (
            ('driver', 'string', False, 'local', ('-d', '--driver')),
            ('label', 'list', True, None, ('--label',)),
        ),
        ('volume create',),
    ),
    'volume inspect': (
        'inspect:volumes', 'VOLUME [VOLUME...]', True, (('names', True, True),),
        (
            ('format', 'string', False, None, ('-f', '--format')),
        ),
        ('volume inspect',),
    ),
    'volume ls': (
        'volume:list_', '', True, (),
        (
            ('format', 'string', False, None, ('--format',)),
            ('quiet', '', False, False, ('-q', '--quiet')),
        ),
        ('volume ls', 'volume list'),
    ),
    'volume prune': (
        'prune:volumes', '', True, (),
        (
            ('all', '', False, False, ('-a', '--all')),
            ('filter', 'filter', True, None, ('--filter',)),
            ('force', '', False, False, ('-f', '--force')),
        ),
        ('volume prune',),
    ),
    'volume rm': (
        'volume:remove', 'VOLUME [VOLUME...]', True, (('volume', True, True),),
        (
            ('force', '', False, False, ('-f', '--force')),
        ),
        ('volume rm', 'volume remove'),
    ),
    'wait': (
        'lifecycle:wait', 'CONTAINER [CONTAINER...]', True, (('container', True, True),),
        (
        ),
        ('wait', 'container wait'),
    ),
}

ALIASES = {
    'container attach': 'attach',
    'container commit': 'commit',
    'container cp': 'cp',
    'container create': 'create',
    'container diff': 'diff',
    'container exec': 'exec',
    'container export': 'export',
    'container kill': 'kill',
    'container list': 'ps',
    'container logs': 'logs',
    'container ls': 'ps',
    'container pause': 'pause',
    'container port': 'port',
    'container ps': 'ps',
    'container remove': 'rm',
    'container rename': 'rename',
    'container restart': 'restart',
    'container rm': 'rm',
    'container run': 'run',
    'container start': 'start',
    'container stats': 'stats',
    'container stop': 'stop',
    'container top': 'top',
    'container unpause': 'unpause',
    'container update': 'update',
    'container wait': 'wait',
    'image history': 'history',
    'image import': 'import',
    'image list': 'images',
    'image load': 'load',
    'image ls': 'images',
    'image pull': 'pull',
    'image push': 'push',
    'image remove': 'rmi',
    'image rm': 'rmi',
    'image save': 'save',
    'image tag': 'tag',
    'network list': 'network ls',
    'system events': 'events',
    'system fsck': 'fsck',
    'system info': 'info',
    'volume list': 'volume ls',
    'volume remove': 'volume rm',
}

GROUPS = ('container', 'image', 'manifest', 'network', 'registry', 'system', 'volume')
