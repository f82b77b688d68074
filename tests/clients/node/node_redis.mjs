// Unmodified node-redis in RESP2 and RESP3 against a server: argument = port.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { createClient, createClientPool, WatchError } from "redis";

const port = Number(process.argv[2]);

for (const RESP of [2, 3]) {
  const connect = (more = {}) => createClient({ socket: { port }, RESP, ...more }).on("error", () => {}).connect();
  const client = await connect({ name: "node" });
  await client.flushAll();
  assert.equal(await client.clientGetName(), "node");
  assert.equal(await client.set("s", "v", { expiration: { type: "EX", value: 100 } }), "OK");
  assert.equal(await client.get("s"), "v");
  assert.ok((await client.ttl("s")) > 90);
  await client.hSet("h", { a: 1, b: 2 });
  assert.deepEqual({ ...(await client.hGetAll("h")) }, { a: "1", b: "2" });
  await client.zAdd("z", [{ score: 1, value: "one" }, { score: 2.5, value: "two" }]);
  assert.deepEqual(await client.zRangeWithScores("z", 0, -1), [{ value: "one", score: 1 }, { value: "two", score: 2.5 }]);
  await client.sAdd("set", ["x", "y"]);
  assert.deepEqual([...(await client.sMembers("set"))].sort(), ["x", "y"]);
  await assert.rejects(client.lPush("s", "x"), /WRONGTYPE/);

  // Commands of one turn are one pipeline.
  const values = await Promise.all(Array.from({ length: 5000 }, (_, n) => client.set(`k${n}`, `${n}`).then(() => client.get(`k${n}`))));
  assert.ok(values.every((value, n) => value === `${n}`));
  assert.deepEqual(await client.multi().incr("n").incr("n").exec(), [1, 2]);
  const other = await connect();
  await client.watch("n");
  await other.incr("n");
  await assert.rejects(client.multi().incr("n").exec(), WatchError);

  let seen = 0;
  for await (const keys of client.scanIterator({ MATCH: "k*", COUNT: 500 })) seen += keys.length;
  assert.equal(seen, 5000);

  const sub = await connect();
  const messages = [];
  await sub.subscribe("news", (text) => messages.push(text));
  await sub.pSubscribe("n*", (text) => messages.push(text));
  await sub.sSubscribe("news", (text) => messages.push(`shard ${text}`));
  assert.equal(await client.publish("news", "hello"), 2);
  assert.equal(await client.sPublish("news", "part"), 1);
  for (let wait = 0; messages.length < 3 && wait < 500; wait++) await sleep(10);
  assert.deepEqual(messages.sort(), ["hello", "hello", "shard part"]);

  const blocked = other.blPop("queue", 5);
  await sleep(50);
  await client.rPush("queue", "job");
  assert.deepEqual({ ...(await blocked) }, { key: "queue", element: "job" });

  const pool = await createClientPool({ socket: { port }, RESP }, { minimum: 2, maximum: 4 }).connect();
  assert.deepEqual(await Promise.all([1, 2, 3, 4].map((n) => pool.incrBy("pool", n).then(() => n))), [1, 2, 3, 4]);
  assert.equal(await client.get("pool"), "10");
  pool.destroy();

  if (RESP === 3) {
    const cached = await connect({ clientSideCache: { ttl: 0, maxEntries: 100 } });
    await client.set("cached", "old");
    const calls = async () => Number((await client.info("commandstats")).match(/cmdstat_get:calls=(\d+)/)[1]);
    assert.equal(await cached.get("cached"), "old");
    const before = await calls();
    for (let n = 0; n < 50; n++) assert.equal(await cached.get("cached"), "old");
    assert.equal(await calls(), before);
    await client.set("cached", "new");
    for (let wait = 0; (await cached.get("cached")) !== "new"; wait++) {
      assert.ok(wait < 500, "never invalidated");
      await sleep(10);
    }
    cached.destroy();
  }
  for (const one of [client, other, sub]) one.destroy();
}
const version = JSON.parse(readFileSync(new URL("node_modules/redis/package.json", import.meta.url))).version;
console.log(`node-redis ${version}: all checks in RESP2 and RESP3`);
// A pool that is destroyed while it still connects leaves those connections open: they must not keep the process.
process.exit(0);
