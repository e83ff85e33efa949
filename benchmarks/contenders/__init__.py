"""Training pipelines that race each other: ours and those of peers, each a process of its own (see ``race``)."""
