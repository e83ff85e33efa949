"""What is run. One file per study: a function ``study()`` that returns a ``StudySpec``; ``ablation run NAME`` finds it.

To write your own, copy one of these or a YAML file (docs/studies.md). Nothing imports this package.
"""
