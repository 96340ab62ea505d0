"""Worker processes that end with the process that started them."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from functools import cache


@cache
def end_with_parent() -> None:
    """End this worker within about a second of its parent: a killed parent cannot stop it, and it would work on alone.

    For workers that their parent starts itself, such as spawned ones and joblib's; not for those of a fork server.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None

    # By its id: joblib's workers, unlike others, are handed nothing else to wait for.
    def watch() -> None:
        while os.getppid() == parent.pid:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
