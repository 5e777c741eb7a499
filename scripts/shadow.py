"""``hvgym shadow host=FILE agent=…``: what a policy would do on a real host, beside what the host does; it touches nothing."""

from omegaconf import DictConfig

from hvgym.scripts import configuration, real_host


@configuration.verb("shadow")
def main(config: DictConfig) -> None:
    """Read, decide, log."""
    from hvgym.bench.driving import Session
    from hvgym.envs.real.fitting import absent, unknown
    from hvgym.envs.real.host import open_host
    from hvgym.envs.real.settings import read_host

    rails = real_host.rails_of(config)
    real_host.seconds_of(config)  # which is refused before a host is asked
    policy, agent = real_host.policy_of(config)
    host = open_host(read_host(real_host.host_file(config)))
    try:
        session = Session(host, policy, rails, agent, acts=False)
        print("\n".join(f"not on this host: {line}" for line in absent(host)))
        if missing := unknown(policy.declaration, host, session.first):
            print(f"{agent} reads and finds missing: {', '.join(missing)}")
        real_host.run(config, "shadow", session, agent)
    finally:
        host.close()
