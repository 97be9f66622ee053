"""Reports of runs: `python -m engine.report RUN` writes one page, with its figures."""
