"""An S3-compatible server for tests, in a process of its own: moto over HTTP, one request after the other.

moto honours `If-None-Match: *` of a PUT and of the end of an upload in parts, but looks for the object and writes it in two steps, between
which another thread may come; the lock makes them one, as an object store does. `python -m tests.s3_server` prints its port.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "tester", "AWS_SECRET_ACCESS_KEY": "of-tests", "AWS_DEFAULT_REGION": "us-east-1"}


@contextmanager
def serving() -> Iterator[str]:
    """The address of a server that has the bucket `artifacts`."""
    import botocore.session

    words = [sys.executable, "-m", "tests.s3_server"]
    with subprocess.Popen(words, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            address = f"http://127.0.0.1:{int(process.stdout.readline())}"
            session = botocore.session.get_session()
            session.set_credentials("tester", "of-tests")
            session.create_client("s3", endpoint_url=address, region_name="us-east-1").create_bucket(Bucket="artifacts")
            yield address
        finally:
            process.kill()


def main() -> None:
    """Serve until killed, or until the one who started this has died."""
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    application, one = DomainDispatcherApplication(create_backend_app), threading.Lock()

    def serialised(environment, start_response):
        with one:
            return list(application(environment, start_response))

    server = make_server("127.0.0.1", 0, serialised, threaded=True)
    print(server.server_port, flush=True)
    parent = os.getppid()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    ended = threading.Event()
    while os.getppid() == parent:
        ended.wait(2)


if __name__ == "__main__":
    main()
