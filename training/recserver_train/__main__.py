"""`python -m recserver_train`: see `cli`."""

from .cli import main

raise SystemExit(main())
