"""Who decides: one policy a file, in rooms by where they come from. At the door: ``policy`` (what a policy is), ``together``
(several on one host) and ``readings`` (what several of them compute from telemetry)."""
