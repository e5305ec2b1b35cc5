"""Method experiments on real data: one script per family, one result folder per experiment.

| what                                        | file           |
|---------------------------------------------|----------------|
| result folders: what was done, what came out| results.py     |
| mean ± sd over seeds as Markdown tables     | spread.py      |
| the generated block of docs/benchmarks.md   | report.py      |
| CLIP from scratch: data, loop, experiment   | emoji.py, clip_training.py, clip_check.py, clip_emoji.py |
| clusterings beside other libraries          | clusters.py, clusters_*.py |
"""
