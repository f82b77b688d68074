"""Unmodified redis-py against a server: argument = port. Any difference from what an application expects fails."""

import asyncio
import sys
import threading
import time

import redis
import redis.asyncio as aio
from redis.backoff import NoBackoff
from redis.cache import CacheConfig
from redis.exceptions import LockError, ResponseError, WatchError
from redis.retry import Retry

PORT = int(sys.argv[1])
CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def expect(found, wanted):
    assert found == wanted, f"{found!r} instead of {wanted!r}"


def wait_until(what, holds):
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.01)


def connect(protocol, **more):
    return redis.Redis(port=PORT, protocol=protocol, decode_responses=True, **more)


@check
def types(protocol):
    r = connect(protocol)
    expect(r.set("s", "1", ex=100), True)
    expect(r.set("s", "2", nx=True), None)
    expect(r.set("s", "3", get=True, keepttl=True), "1")
    expect(0 < r.ttl("s") <= 100, True)
    expect(r.incrbyfloat("s", 0.5), 3.5)
    expect(r.hset("h", mapping={"a": 1, "b": 2}), 2)
    expect(r.hgetall("h"), {"a": "1", "b": "2"})
    expect(r.hexpire("h", 100, "a", "none"), [1, -2])
    expect(r.rpush("l", *"abc"), 3)
    expect(r.lmove("l", "m", "LEFT", "RIGHT"), "a")
    expect(r.lrange("l", 0, -1), ["b", "c"])
    expect(r.sadd("set", *"xyz"), 3)
    expect(set(r.smembers("set")), set("xyz"))
    expect(r.smismember("set", ["x", "q"]), [1, 0])
    expect(r.zadd("z", {"one": 1, "two": 2.5}), 2)
    pair = ["one", 1.0] if protocol == 3 else ("one", 1.0)
    expect(r.zrange("z", 0, 0, withscores=True), [pair])
    expect(r.zscore("z", "two"), 2.5)
    expect(r.geoadd("g", [13.361389, 38.115556, "Palermo", 15.087269, 37.502669, "Catania"]), 2)
    expect(round(r.geodist("g", "Palermo", "Catania", unit="km")), 166)
    expect(r.geosearch("g", longitude=15, latitude=37, radius=200, unit="km", sort="ASC"), ["Catania", "Palermo"])
    expect(r.pfadd("p", *range(100)), 1)
    expect(abs(r.pfcount("p") - 100) < 5, True)
    expect(r.setbit("b", 7, 1), 0)
    expect(r.bitcount("b"), 1)
    expect(r.bitfield("b").set("u8", 8, 255).incrby("u8", 8, 1).execute(), [0, 0])
    expect(sorted(r.scan_iter("?", count=2)), sorted(key for key in r.keys() if len(key) == 1))
    expect(r.type("z"), "zset")
    expect(r.object("encoding", "set"), "listpack")
    expect(r.info("keyspace")["db0"]["keys"], r.dbsize())
    expect(r.config_get("maxmemory-policy"), {"maxmemory-policy": "noeviction"})
    expect(r.command_count() > 200, True)
    expect(r.client_id() > 0, True)
    try:
        r.lpush("s", 1)
        raise AssertionError("no error")
    except ResponseError as error:
        expect(str(error), "WRONGTYPE Operation against a key holding the wrong kind of value")


@check
def binary_values(protocol):
    r = redis.Redis(port=PORT, protocol=protocol)
    value = bytes(range(256)) * 4096
    r.set(b"\x00\r\n", value)
    expect(r.get(b"\x00\r\n"), value)
    expect(r.getrange(b"\x00\r\n", 255, 257), b"\xff\x00\x01")


@check
def pipelines(protocol):
    r = connect(protocol)
    with r.pipeline(transaction=False) as pipe:
        for n in range(10_000):
            pipe.set(f"k{n}", n)
            pipe.get(f"k{n}")
        replies = pipe.execute()
    expect(replies[1::2], [str(n) for n in range(10_000)])
    with r.pipeline() as pipe:
        pipe.incr("n").lpush("n", 1).incr("n")
        expect([type(x).__name__ for x in pipe.execute(raise_on_error=False)], ["int", "ResponseError", "int"])
    other = connect(protocol)
    with r.pipeline() as pipe:
        pipe.watch("n")
        other.incr("n")
        pipe.multi()
        pipe.set("n", 0)
        try:
            pipe.execute()
            raise AssertionError("EXEC ran although the watched key changed")
        except WatchError:
            pass
    expect(r.transaction(lambda pipe: pipe.multi() or pipe.incr("n"), "n"), [4])


@check
def publish_subscribe(protocol):
    r = connect(protocol)
    sub = r.pubsub(ignore_subscribe_messages=True)
    sub.subscribe("news")
    sub.psubscribe("n?ws")
    sub.ssubscribe("shard")
    # What is sent on one connection may come after what is sent later on another.
    wait_until("it listens", lambda: r.pubsub_numpat() == 1 and r.pubsub_shardnumsub("shard") == [("shard", 1)])
    expect(r.publish("news", "hello"), 2)
    expect(r.spublish("shard", "part"), 1)
    got = []
    deadline = time.monotonic() + 20
    while len(got) < 3 and time.monotonic() < deadline:
        message = sub.get_message(timeout=1)
        if message:
            got.append((message["type"], message["channel"], message["data"]))
    expect(sorted(got), [("message", "news", "hello"), ("pmessage", "news", "hello"), ("smessage", "shard", "part")])
    expect(r.pubsub_channels(), ["news"])
    sub.close()


@check
def keyspace_notifications(protocol):
    r = connect(protocol)
    r.config_set("notify-keyspace-events", "KEA")
    sub = r.pubsub(ignore_subscribe_messages=True)
    sub.psubscribe("__keyspace@0__:*")
    wait_until("it listens", lambda: r.pubsub_numpat() == 1)
    r.set("noted", 1, px=30)
    seen, deadline = [], time.monotonic() + 20
    while "expired" not in seen and time.monotonic() < deadline:
        message = sub.get_message(timeout=0.2)
        if message:
            seen.append(message["data"])
    expect(seen, ["set", "expire", "expired"])
    sub.close()
    r.config_set("notify-keyspace-events", "")


@check
def blocking(protocol):
    r = connect(protocol)
    timer = threading.Timer(0.1, lambda: connect(protocol).rpush("queue", "job"))
    timer.start()
    found = r.blpop("queue", timeout=5)
    expect(list(found), ["queue", "job"])
    timer.join()
    expect(r.blpop("queue", timeout=0.05), None)


@check
def locks(protocol):
    # redis-py's lock releases by a script if the server has scripts: only what needs none is used.
    r = connect(protocol)
    lock = r.lock("lock", timeout=5, blocking=False)
    expect(lock.acquire(), True)
    expect(r.lock("lock", blocking=False).acquire(), False)
    expect(lock.locked(), True)
    expect(lock.owned(), True)
    expect(0 < r.pttl("lock") <= 5000, True)
    # The release of a lock without a script: compare and delete in a transaction.
    token = lock.local.token
    expect(r.transaction(lambda p: (p.get("lock").encode() == token, p.multi(), p.delete("lock")), "lock"), [1])
    expect(lock.locked(), False)
    second = r.lock("lock", timeout=5, blocking_timeout=1)
    expect(second.acquire(), True)
    r.delete("lock")
    expect(second.owned(), False)


@check
def client_side_cache(protocol):
    if protocol != 3:
        return
    r = connect(3, cache_config=CacheConfig(max_size=100))
    other = connect(3)
    other.set("cached", "old")
    expect(r.get("cached"), "old")
    expect(len(r.get_cache().collection), 1)
    asked = int(other.info("commandstats")["cmdstat_get"]["calls"])
    expect([r.get("cached") for _ in range(50)], ["old"] * 50)
    expect(int(other.info("commandstats")["cmdstat_get"]["calls"]), asked)
    other.set("cached", "new")
    wait_until("it is invalidated", lambda: r.get("cached") == "new")
    r.close()


@check
def several_databases(protocol):
    nine = connect(protocol, db=9)
    nine.set("only", "here")
    expect(connect(protocol).exists("only"), 0)
    expect(nine.move("only", 10), 1)
    expect(connect(protocol, db=10).get("only"), "here")


@check
def reconnects(protocol):
    r = connect(protocol, client_name="mine", retry=Retry(NoBackoff(), 3))
    name = r.client_getname()
    expect(name, "mine")
    connect(protocol).client_kill_filter(_id=str(r.client_id()))
    expect(r.ping(), True)
    expect(r.client_getname(), "mine")


@check
def asynchronous(protocol):
    async def main():
        r = aio.Redis(port=PORT, protocol=protocol, decode_responses=True)
        await asyncio.gather(*(r.set(f"a{n}", n) for n in range(90)))
        expect(await r.mget([f"a{n}" for n in range(90)]), [str(n) for n in range(90)])
        async with r.pipeline(transaction=True) as pipe:
            expect(await pipe.set("x", 1).incr("x").execute(), [True, 2])
        async with r.pubsub(ignore_subscribe_messages=True) as sub:
            await sub.subscribe("async")
            while dict(await r.pubsub_numsub("async"))["async"] != 1:
                await asyncio.sleep(0.01)
            await r.publish("async", "hi")
            message, tries = None, 0
            while message is None and tries < 10:
                # The first may be what says that it is subscribed, which is passed over as none.
                message, tries = await sub.get_message(timeout=2), tries + 1
            expect(message["data"], "hi")
        waiting = asyncio.create_task(r.bzpopmin("bz", timeout=5))
        await asyncio.sleep(0.05)
        await r.zadd("bz", {"m": 1})
        expect(list(await waiting)[:2], ["bz", "m"])
        await r.aclose()

    asyncio.run(main())


for protocol in (2, 3):
    for test in CHECKS:
        connect(protocol).flushall()
        test(protocol)
parser = type(connect(3).connection_pool.get_connection()._parser).__name__
print(f"redis-py {redis.__version__} with {parser}: {len(CHECKS)} checks in RESP2 and RESP3")
