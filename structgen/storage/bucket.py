"""A bucket of an S3-compatible object store as a shelf.

An object appears when its upload ends, in one piece or as many, and only if its name is free then (`If-None-Match: *`): so publication is
exclusive, and a writer that dies leaves nothing to see. Endpoint and credentials are what every S3 tool takes from the environment or
from its files: AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION, AWS_PROFILE.
"""

from __future__ import annotations

import logging
import os
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from structgen.errors import ConfigError, StructgenError
from structgen.storage.lease import LOOK, SECONDS, is_held, leased
from structgen.storage.seal import unseal
from structgen.storage.shelf import Item, Shelf

logger = logging.getLogger(__name__)

PART = 16 * 2**20  # bytes; content of two or more goes up in parts
PAUSES = (0.2, 1.0, 3.0)  # seconds before what came damaged, or met another writer's upload, is tried again
URL = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[\w.=+-]+)*")


class StoreError(StructgenError):
    """The object store cannot be reached, or does not do as asked."""


@dataclass(frozen=True)
class Bucket(Shelf):
    """Content of key `abcd..` is the object `<url>/ab/abcd..`; rights, and what was set aside, lie under `<url>/tmp`."""

    url: str  # s3://bucket/prefix

    def __post_init__(self) -> None:
        if not URL.fullmatch(self.url):
            raise ConfigError(f"store {self.url}: expected s3://bucket or s3://bucket/prefix of letters, digits and . _ = + -")

    def check(self) -> None:
        probe = f"tmp/{uuid.uuid4().hex}.probe"
        honours = self.create(probe, b"first") and not self.create(probe, b"second")
        self.delete(probe)
        if not honours:
            raise ConfigError(f"store {self.url}: the server does not honour If-None-Match, so writers would overwrite each other there")

    def put(self, key: str, content: bytes) -> bool:
        return self.create(_name(key), content)

    def get(self, key: str) -> bytes:
        with self._files() as files:
            for pause in (*PAUSES, None):
                content = bytes(files.cat_file(self._place(_name(key)), max_concurrency=1))  # of pieces, a lost one would read as zeros
                if unseal(content) is not None or pause is None:
                    break
                logger.warning("store %s: artifact %s came damaged; reading it again", self.url, key)
                time.sleep(pause)
            if pause is None and len(content) != files.call_s3("head_object", **self._address(_name(key)))["ContentLength"]:
                raise StoreError(f"store {self.url}: artifact {key} is cut on its way again and again; what is between here and there?")
        return content

    def holds(self, key: str) -> bool:
        if self.age(_name(key)) is None:
            raise FileNotFoundError(key)
        return True

    def set_aside(self, key: str) -> None:
        with self._files() as files:
            files.copy(self._place(_name(key)), self._place(f"tmp/{key}.{uuid.uuid4().hex}.damaged"))
        self.delete(_name(key))

    @contextmanager
    def exclusive(self, key: str) -> Iterator[None]:
        with leased(self, f"tmp/{key}.lock"):
            yield

    @contextmanager
    def in_use(self) -> Iterator[None]:
        with leased(self, f"tmp/{uuid.uuid4().hex}.user"):
            while is_held(self, "tmp/removal.lock"):  # a removal that begins later sees this user
                time.sleep(LOOK)
            yield

    @contextmanager
    def unused(self) -> Iterator[bool]:
        with leased(self, "tmp/removal.lock"):
            yield not any(item.age < SECONDS for item in self._under("tmp/") if item.name.endswith(".user"))

    def items(self) -> Iterator[Item]:
        for item in self._under(""):
            folder, _, key = item.name.rpartition("/")
            if len(folder) == 2 and key.startswith(folder):
                yield Item(key, item.size, item.age)

    def remove(self, key: str) -> None:
        self.delete(_name(key))

    def litter(self, age: float) -> list[Item]:
        lying = [item for item in self._under("tmp/") if item.age > max(age, SECONDS)]
        return lying + [item for item in self._uploads() if item.age > age]

    def clear(self, litter: Item) -> None:
        name, _, upload = litter.name.partition("?uploadId=")
        if not upload:
            self.delete(name)
            return
        with self._files() as files:
            files.call_s3("abort_multipart_upload", **self._address(name), UploadId=upload)

    def create(self, name: str, content: bytes) -> bool:
        """Write an object; False where there is one of this name."""
        for pause in (*PAUSES, 0.0):
            try:
                with self._files() as files:
                    files.pipe_file(self._place(name), content, chunksize=PART, mode="create")
                return True
            except FileExistsError:
                return False
            except FileNotFoundError as error:
                raise ConfigError(f"store {self.url}: there is no such bucket; make it first, or choose another with --store") from error
            except _Busy:
                time.sleep(pause)
        raise StoreError(f"store {self.url}: {name} is being written by others again and again; run the same command again")

    def replace(self, name: str, content: bytes) -> None:
        """Write an object, whatever lies there."""
        with self._files() as files:
            files.pipe_file(self._place(name), content)

    def delete(self, name: str) -> None:
        """Remove an object, if there is one."""
        with self._files() as files:
            files.call_s3("delete_object", **self._address(name))

    def age(self, name: str) -> float | None:
        """Seconds since an object was written; nothing where there is none."""
        try:
            with self._files() as files:
                head = files.call_s3("head_object", **self._address(name))
        except FileNotFoundError:
            return None
        return _now(head) - head["LastModified"].timestamp()

    def __str__(self) -> str:
        return self.url

    def _under(self, prefix: str) -> Iterator[Item]:
        """Every object whose name begins so."""
        address, before, more = self._address(prefix), len(self._address("")["Key"]), dict[str, str]()
        while True:
            with self._files() as files:
                page = files.call_s3("list_objects_v2", Bucket=address["Bucket"], Prefix=address["Key"], **more)
            for found in page.get("Contents", []):
                yield Item(found["Key"][before:], found["Size"], _now(page) - found["LastModified"].timestamp())
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def _uploads(self) -> list[Item]:
        """Uploads in parts that did not end. Their size is not known."""
        address = self._address("")
        with self._files() as files:
            page = files.call_s3("list_multipart_uploads", Bucket=address["Bucket"], Prefix=address["Key"])
        names = [f"{found['Key'][len(address['Key']) :]}?uploadId={found['UploadId']}" for found in page.get("Uploads", [])]
        ages = [_now(page) - found["Initiated"].timestamp() for found in page.get("Uploads", [])]
        return [Item(name, 0, age) for name, age in zip(names, ages, strict=True)]

    def _place(self, name: str) -> str:
        return f"{self.url}/{name}"

    def _address(self, name: str) -> dict[str, str]:
        """An object as the server knows it."""
        bucket, _, prefix = self.url.removeprefix("s3://").partition("/")
        return {"Bucket": bucket, "Key": f"{prefix}/{name}" if prefix else name}

    @contextmanager
    def _files(self) -> Iterator[Any]:
        """The object store's client, which is made once a process; its failures as errors of structgen."""
        try:
            from aiohttp import ClientError as ConnectionBroken
            from botocore.exceptions import BotoCoreError, ClientError
            from s3fs import S3FileSystem
        except ImportError as error:
            raise ConfigError(f"store {self.url}: s3fs is not installed here; pip install 'structgen[s3]'") from error
        try:
            yield S3FileSystem(use_listings_cache=False, **_client_settings())
        except (FileNotFoundError, FileExistsError):
            raise
        except (OSError, BotoCoreError, ClientError, ConnectionBroken) as error:
            raise _said(self.url, error) from error


class _Busy(StructgenError):
    """Another upload to the same name ended at this moment; the server asks to try again."""


def _said(url: str, error: Exception) -> Exception:
    """What the client's error means."""
    code = getattr(error.__cause__, "response", {}).get("Error", {}).get("Code", "")
    if code == "PreconditionFailed":
        return FileExistsError(url)
    if code in ("ConditionalRequestConflict", "OperationAborted"):
        return _Busy()
    if isinstance(error, PermissionError) or type(error).__name__ in ("NoCredentialsError", "PartialCredentialsError"):
        return ConfigError(f"store {url}: access denied ({error}); set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY or AWS_PROFILE")
    return StoreError(f"store {url}: {type(error).__name__}: {error}; is AWS_ENDPOINT_URL right and the server up?")


def _client_settings() -> dict[str, Any]:
    """The client is made anew where the endpoint changes; s3fs tries five times around its own tries.

    Servers other than Amazon's seldom have a host name for every bucket.
    """
    own = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    settings: dict[str, Any] = {"connect_timeout": 10, "read_timeout": 60, "retries": {"max_attempts": 2, "mode": "standard"}}
    return {"endpoint_url": own, "config_kwargs": settings | ({"s3": {"addressing_style": "path"}} if own else {})}


def _name(key: str) -> str:
    return f"{key[:2]}/{key}"


def _now(answer: dict[str, Any]) -> float:
    """The server's clock."""
    return parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"]).timestamp()
