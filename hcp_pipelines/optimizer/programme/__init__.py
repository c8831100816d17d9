"""The linear programme of a facility: what every group should do over the next hours, reserves, peaks and AI work included.

`spec` says what a facility is and what is known of the hours ahead, `programme` solves, `plan` is what comes of it, `windows`
goes through a long time in overlapping pieces, `envelopes` turns the programme into curves by price.
"""

from hcp_pipelines.optimizer.programme.plan import Plan
from hcp_pipelines.optimizer.programme.programme import SiteProgramme
from hcp_pipelines.optimizer.programme.spec import Group, Horizon, InfeasibleError, Mode, SiteSpec, Start, Training

__all__ = ["Group", "Horizon", "InfeasibleError", "Mode", "Plan", "SiteProgramme", "SiteSpec", "Start", "Training"]
