"""How a step is computed: precision, levers, optimizer, schedules, processes that share a model."""
