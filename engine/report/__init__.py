"""Reports of runs: `python -m svfap.engine.report RUN` writes one page, with its figures."""
