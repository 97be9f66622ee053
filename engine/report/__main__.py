"""`python -m svfap.engine.report RUN`: the page of a run or a cross-validation, and its plots."""

from svfap.engine.report.page import main
from svfap.terminal import as_program

if __name__ == "__main__":
    as_program()
    main()
