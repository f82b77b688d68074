"""A client that asks sentinels for the primary and writes to it, for ever; each line is the port that a write went to."""

import sys
import time

import redis
from redis.sentinel import MasterNotFoundError, Sentinel

sentinels = [("127.0.0.1", int(port)) for port in sys.argv[1:]]
client = Sentinel(sentinels, socket_timeout=0.5).master_for("mymaster", socket_timeout=0.5)
while True:
    try:
        client.incr("writes")
        client.hset("hash", f"field-{time.time_ns() % 100}", time.time_ns())
        print(client.config_get("port")["port"], flush=True)
    except (redis.RedisError, MasterNotFoundError):
        pass
    time.sleep(0.1)
