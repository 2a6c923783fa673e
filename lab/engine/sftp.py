"""Files over SFTP as the official command plugin copies them: same order, same words."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import asyncssh

from lab.engine.properties import Properties
from lab.engine.provider import OperationError


async def copy(connection: asyncssh.SSHClientConnection, source: Properties, target: str) -> None:
    """Write a file or a text to `target`, whose missing folders are made; a file into a folder.

    What was there is written over, not replaced: a copy that fails leaves half a file.

    Args:
        source: {"path": ...} or {"text": ...}.

    Raises:
        OperationError: with the official plugin's words for what went wrong.
    """
    try:
        client = await connection.start_sftp_client()
    except asyncssh.Error as error:
        raise OperationError("ssh: subsystem request failed") from error
    async with client:
        path = str(source.get("path", ""))
        content = _read(path) if path else str(source.get("text", "")).encode()
        is_folder = await _is_folder(client, target)
        if is_folder and not path:
            raise OperationError(
                f"remote path {target} is a directory; "
                "when using a text asset, remotePath must be a file path"
            )
        if is_folder:
            target = str(PurePosixPath(target, Path(path).name))
        elif is_folder is None:
            await _make_parents(client, target)
        what = f"copy file {path} to" if path else "write text content to"
        await _write(client, target, content, f"failed to {what} remote path {target}")


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise OperationError(f"open {path}: {(error.strerror or str(error)).lower()}") from error


async def _is_folder(client: asyncssh.SFTPClient, path: str) -> bool | None:
    """None for what is not there."""
    try:
        return (await client.stat(path)).type == asyncssh.FILEXFER_TYPE_DIRECTORY
    except asyncssh.SFTPNoSuchFile:
        return None
    except asyncssh.SFTPError as error:
        raise OperationError(f"failed to stat remote path {path}: {_words(error)}") from error


async def _make_parents(client: asyncssh.SFTPClient, target: str) -> None:
    failed = f"failed to create parent directories for {target}"
    for folder in [*reversed(PurePosixPath(target).parents)]:
        is_folder = await _is_folder(client, str(folder))
        if is_folder is False:
            raise OperationError(f"{failed}: mkdir {folder}: not a directory")
        if is_folder is None:
            try:
                await client.mkdir(str(folder))
            except asyncssh.SFTPError as error:
                raise OperationError(f"{failed}: {_words(error)}") from error


async def _write(client: asyncssh.SFTPClient, target: str, content: bytes, failed: str) -> None:
    try:
        file = await client.open(target, "wb")
    except asyncssh.SFTPError as error:
        raise OperationError(f"failed to create remote file {target}: {_words(error)}") from error
    try:
        async with file:
            await file.write(content)
    except asyncssh.SFTPError as error:
        raise OperationError(f"{failed}: {_words(error)}") from error


def _words(error: asyncssh.SFTPError) -> str:
    """As Go's library has them, which leaves only some to the server."""
    if isinstance(error, asyncssh.SFTPNoSuchFile):
        return "file does not exist"
    if isinstance(error, asyncssh.SFTPPermissionDenied):
        return "permission denied"
    code = "SSH_FX_FAILURE" if isinstance(error, asyncssh.SFTPFailure) else str(error.code)
    return f'sftp: "{error.reason}" ({code})'
