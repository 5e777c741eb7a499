"""What guests read from their own swap between two decisions: the plainest sign that one has too little."""

import numpy as np

from hvgym.envs.telemetry import Telemetry


class SwapReads:
    """What each guest has read from its own swap since it was last asked, ``[env, vm]``; 0 where it does not tell, or has just
    started."""

    def __init__(self, first: Telemetry) -> None:
        self._before = first.vm["guest_swap_in_mib"].copy()

    def since(self, telemetry: Telemetry) -> np.ndarray:
        """See the class."""
        now = telemetry.vm["guest_swap_in_mib"].copy()
        read, self._before = now - self._before, now
        return np.maximum(np.nan_to_num(read), 0.0)
