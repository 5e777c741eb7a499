"""``hvgym drive host=FILE agent=… drive.confirm=true``: a policy that sets memory on a real host, within guard rails.

However it ends, VMs get the sizes back that they had: Ctrl-C, SIGTERM and errors by the driver itself, kill -9 by its watchdog.
"""

from omegaconf import DictConfig

from hvgym.envs.errors import InputError, shown
from hvgym.scripts import configuration, real_host


@configuration.verb("drive")
def main(config: DictConfig) -> None:
    """Read, decide, act, log; hand back."""
    from hvgym.bench.driving import Session, watched
    from hvgym.envs.real.host import open_host
    from hvgym.envs.real.settings import read_host
    from hvgym.envs.real.watchdog import restore_kept

    rails, silent_s, restore = real_host.rails_of(config), _silent_s(config), configuration.switch(config, "restore")
    real_host.seconds_of(config)  # which is refused before a host is asked
    file = real_host.host_file(config)
    settings = read_host(file)
    kept = configuration.runs_folder(config) / "drive" / f".{settings.name}.restore.json"
    if kept.exists():
        _say_restored(*restore_kept(kept))
    elif restore:
        print(f"{kept}: not there; nothing is to be restored on {settings.name}")
    if restore:
        return
    _confirm(config)
    policy, agent = real_host.policy_of(config)
    host = open_host(settings)
    try:
        session = Session(host, policy, rails, agent, acts=True)
        with watched(session, file, kept, max(silent_s, 3.0 * policy.period_s)) as alive:
            real_host.run(config, "drive", session, agent, alive)
    finally:
        host.close()


def _silent_s(config: DictConfig) -> float:
    """After which the watchdog acts. Raises `InputError` for whatever is wrong with the keys of ``drive``."""
    keys = configuration.plain(config.drive)
    if not isinstance(keys, dict) or keys.keys() - {"confirm", "silent_s"}:
        raise InputError(f"drive={shown(keys)}: expected confirm and silent_s")
    if not isinstance(keys.get("confirm"), bool):
        raise InputError(f"drive.confirm={shown(keys.get('confirm'))}: expected true or false")
    silent_s = keys.get("silent_s", 60)
    if isinstance(silent_s, bool) or not isinstance(silent_s, (int, float)) or not 1 <= silent_s <= 86400:
        raise InputError(f"drive.silent_s={shown(silent_s)}: expected seconds, 1 to 86400")
    return float(silent_s)


def _confirm(config: DictConfig) -> None:
    """Raise `InputError` unless it is meant."""
    if not config.drive.confirm:
        raise InputError(
            "drive.confirm=false: this sets memory of running VMs; watch hvgym shadow first, then say drive.confirm=true"
        )


def _say_restored(done: list[str], left: list[str]) -> None:
    if done:
        print(f"a former driver is gone; gave {', '.join(done)} the size back")
    if left:
        print(f"{', '.join(left)} did not take the size back; look at them")
