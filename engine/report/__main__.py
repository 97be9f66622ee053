"""`python -m engine.report RUN`: see `engine.report.page`."""

from svfap.engine.report.page import main

if __name__ == "__main__":
    main()
