"""What papers say that can be checked here, and why it turned out so. Figures and verdicts come from the results."""

from __future__ import annotations

from benchmarks.methods.claims_clip import CLIP
from benchmarks.methods.claims_earlier import EARLIER
from benchmarks.methods.claims_tasks import TASKS
from benchmarks.methods.clusters_claims import CLUSTERS

CLAIMS = (*EARLIER, *TASKS, *CLIP, *CLUSTERS)
