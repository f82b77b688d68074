// Unmodified ioredis against a server: argument = port. Any difference from what an application expects fails.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import Redis from "ioredis";

const port = Number(process.argv[2]);
const connect = (more = {}) => new Redis({ port, ...more });
const redis = connect({ connectionName: "io" });
await redis.flushall();

assert.equal(await redis.client("GETNAME"), "io");
assert.equal(await redis.set("s", "v", "EX", 100), "OK");
assert.equal(await redis.get("s"), "v");
assert.deepEqual(await redis.getBuffer("s"), Buffer.from("v"));
await redis.hset("h", { a: 1, b: 2 });
assert.deepEqual(await redis.hgetall("h"), { a: "1", b: "2" });
await redis.zadd("z", 1, "one", 2, "two");
assert.deepEqual(await redis.zrange("z", 0, -1, "WITHSCORES"), ["one", "1", "two", "2"]);
await assert.rejects(redis.lpush("s", 1), /^ReplyError: WRONGTYPE Operation against a key holding the wrong kind of value$/);

// Pipelines and transactions.
const pipeline = redis.pipeline();
for (let n = 0; n < 5000; n++) pipeline.set(`k${n}`, n).get(`k${n}`);
const replies = await pipeline.exec();
assert.equal(replies.length, 10000);
assert.ok(replies.every(([error, reply], n) => !error && reply === (n % 2 ? String((n - 1) / 2) : "OK")));
assert.deepEqual(await redis.multi().incr("n").incr("n").exec(), [[null, 1], [null, 2]]);
await redis.watch("n");
await redis.multi().incr("n").exec();
const other = connect();
await redis.watch("n");
await other.incr("n");
assert.equal(await redis.multi().incr("n").exec(), null);

// Commands that ioredis pipelines by itself.
const auto = connect({ enableAutoPipelining: true });
assert.deepEqual(await Promise.all([..."abc"].map((c) => auto.set(c, c).then(() => auto.get(c)))), ["a", "b", "c"]);

// Streams of keys.
let seen = new Set();
for await (const keys of redis.scanStream({ match: "k*", count: 500 })) keys.forEach((key) => seen.add(key));
assert.equal(seen.size, 5000);

// Publish and subscribe.
const sub = connect();
const messages = [];
sub.on("message", (channel, text) => messages.push([channel, text]));
sub.on("pmessage", (pattern, channel, text) => messages.push([pattern, channel, text]));
await sub.subscribe("news");
await sub.psubscribe("n*");
assert.equal(await redis.publish("news", "hello"), 2);
for (let wait = 0; messages.length < 2 && wait < 500; wait++) await sleep(10);
assert.deepEqual(messages.sort(), [["n*", "news", "hello"], ["news", "hello"]]);

// Blocking, and a connection that is killed and comes back.
const blocked = other.blpop("queue", 5);
await sleep(50);
await redis.rpush("queue", "job");
assert.deepEqual(await blocked, ["queue", "job"]);
const ended = new Promise((done) => other.once("close", done));
await redis.client("KILL", "ID", await other.client("ID"));
await ended;
assert.equal(await other.get("a"), "a");
// A subscriber that was killed subscribes again.
const back = new Promise((done) => sub.once("ready", done));
await redis.client("KILL", "TYPE", "pubsub");
await back;
// The client sends its channels and its patterns as two commands: both must have arrived before a word is published.
const listeners = async () => (await redis.pubsub("NUMSUB", "news"))[1] + (await redis.pubsub("NUMPAT"));
for (let wait = 0; (await listeners()) < 2 && wait < 500; wait++) await sleep(10);
messages.length = 0;
await redis.publish("news", "again");
for (let wait = 0; messages.length < 2 && wait < 500; wait++) await sleep(10);
assert.equal(messages.length, 2);

// MONITOR.
const monitor = await redis.monitor();
const watched = new Promise((done) => monitor.once("monitor", (time, args) => done(args)));
await redis.get("a");
assert.deepEqual(await watched, ["get", "a"]);
monitor.disconnect();

const version = JSON.parse(readFileSync(new URL("node_modules/ioredis/package.json", import.meta.url))).version;
for (const client of [redis, other, auto, sub]) client.disconnect();
console.log(`ioredis ${version}: all checks`);
