"""A policy as MLflow logs it: a table of readings in, a table of memory sizes out. Nothing here imports mlflow.

A policy that is not trained is the same on every host, so its table may end after fewer VMs than its signature has. What is logged
is a pickle, code that runs when it is loaded, so a model from elsewhere is to be trusted first.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hvgym.agents.policy import make_policy
from hvgym.envs.telemetry import HOST_SIGNALS, HOST_TELEMETRY, VM_SIGNALS, VM_TELEMETRY, Telemetry


def columns(vms: int) -> list[str]:
    """Names of the input columns of a logged policy: one row is one reading of one host with `vms` VMs."""
    host = [f"host.{signal.name}" for signal in HOST_SIGNALS]
    return ["time_s", *host, *(f"vm{v}.{signal.name}" for v in range(vms) for signal in VM_SIGNALS)]


def to_rows(readings: Sequence[Telemetry], lane: int = 0) -> Any:
    """Readings of one lane as the table (pandas) that a logged policy takes."""
    import pandas as pd

    rows = [
        [t.time_s[lane], *t.host[lane, 0].tolist(), *(value for vm in t.vm[lane] for value in vm.tolist())]
        for t in readings
    ]
    return pd.DataFrame(rows, columns=columns(readings[0].vm.shape[1]), dtype="float64")


def from_row(row: np.ndarray, vms: int) -> Telemetry:
    """One row of that table as a reading."""
    host = np.array([[tuple(row[1 : 1 + len(HOST_SIGNALS)])]], HOST_TELEMETRY)
    rest = row[1 + len(HOST_SIGNALS) :].reshape(vms, len(VM_SIGNALS))
    return Telemetry(row[:1].copy(), np.array([[tuple(vm) for vm in rest]], VM_TELEMETRY), host)


def example_rows(vms: int) -> Any:
    """Two plausible rows, as the input example of a model."""
    vm = np.zeros((1, vms), VM_TELEMETRY)
    for name in ("memory_mib", "size_mib", "target_mib", "guest_total_mib"):
        vm[name] = 4096.0
    vm["min_mib"], vm["shares"], vm["resident_mib"], vm["guest_free_mib"] = 1024.0, 1000.0, 3000.0, 1000.0
    host = np.zeros((1, 1), HOST_TELEMETRY)
    host["total_mib"], host["available_mib"] = 3000.0 * vms, 500.0
    return to_rows([Telemetry(np.array([t]), vm, host) for t in (0.0, 10.0)])


def model_class(base: Any) -> Any:
    """The python model of a policy, on MLflow's base class."""
    import pandas as pd

    class PolicyModel(base):
        """Input: columns of `columns`, in time order. Output: target_mib of every VM, NaN where the policy leaves it. The policy
        is reset before the first row.
        """

        def __init__(self, agent: Mapping[str, Any]) -> None:
            self.agent = dict(agent)

        def load_context(self, context) -> None:  # type: ignore[no-untyped-def]
            path = context.artifacts.get("checkpoint") if context.artifacts else None
            extra = {"checkpoint": path} if path else {}
            self.policy: Any = make_policy(self.agent, **extra)

        def predict(self, context, model_input: pd.DataFrame, params=None):  # type: ignore[no-untyped-def]
            values = model_input.to_numpy(dtype=np.float64)
            vms = (values.shape[1] - 1 - len(HOST_SIGNALS)) // len(VM_SIGNALS)
            readings = [from_row(row, vms).seen_with(self.policy.visibility) for row in values]
            self.policy.granted(("memory_mib",))  # all that the table has
            self.policy.reset(readings[0], seed=0)
            answers = [self.policy.decide(reading).memory_mib for reading in readings]
            sizes = [np.full(vms, np.nan) if answer is None else answer[0] for answer in answers]
            return pd.DataFrame(sizes, columns=[f"vm{v}.target_mib" for v in range(vms)])

    return PolicyModel
