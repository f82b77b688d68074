//! Unmodified redis-rs against a server: argument = port. Any difference from what an application expects fails.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use futures_util::StreamExt;
use redis::{AsyncCommands, Commands, RedisResult};

fn main() -> RedisResult<()> {
    let port = std::env::args().nth(1).expect("a port");
    for protocol in ["resp2", "resp3"] {
        let client =
            redis::Client::open(format!("redis://127.0.0.1:{port}/0?protocol={protocol}"))?;
        let mut connection = client.get_connection()?;
        redis::cmd("FLUSHALL").exec(&mut connection)?;
        types(&mut connection)?;
        pipelines(&mut connection)?;
        transactions(&client, &mut connection)?;
        publish_subscribe(&client)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(asynchronous(&client))?;
    }
    println!("redis-rs: all checks in RESP2 and RESP3");
    Ok(())
}

fn types(con: &mut redis::Connection) -> RedisResult<()> {
    let () = con.set_ex("s", "v", 100)?;
    assert_eq!(con.get::<_, String>("s")?, "v");
    assert_eq!(con.get::<_, Option<String>>("missing")?, None);
    assert!(con.ttl::<_, i64>("s")? > 90);
    let bytes: Vec<u8> = (0..=255).collect();
    let () = con.set("bytes", &bytes)?;
    assert_eq!(con.get::<_, Vec<u8>>("bytes")?, bytes);
    assert_eq!(con.incr::<_, _, f64>("f", 1.5)?, 1.5);
    let () = con.hset_multiple("h", &[("a", 1), ("b", 2)])?;
    let fields: HashMap<String, i32> = con.hgetall("h")?;
    assert_eq!(fields, HashMap::from([("a".to_owned(), 1), ("b".to_owned(), 2)]));
    let () = con.rpush("l", &["a", "b", "c"])?;
    assert_eq!(con.lrange::<_, Vec<String>>("l", 0, -1)?, ["a", "b", "c"]);
    let () = con.sadd("set", &["x", "y"])?;
    assert_eq!(con.smembers::<_, HashSet<String>>("set")?.len(), 2);
    let () = con.zadd_multiple("z", &[(1.0, "one"), (2.5, "two")])?;
    let scored: Vec<(String, f64)> = con.zrange_withscores("z", 0, -1)?;
    assert_eq!(scored, [("one".to_owned(), 1.0), ("two".to_owned(), 2.5)]);
    assert_eq!(con.pfadd::<_, _, bool>("p", "x")?, true);
    let error = con.lpush::<_, _, i64>("s", "x").unwrap_err();
    assert_eq!(error.code(), Some("WRONGTYPE"), "{error}");
    let keys: Vec<String> = con.scan_match::<_, String>("[hlz]")?.collect::<RedisResult<_>>()?;
    assert_eq!(keys.len(), 3);
    let info: redis::InfoDict = redis::cmd("INFO").query(con)?;
    assert!(info.get::<u64>("used_memory").is_some_and(|bytes| bytes > 0));
    Ok(())
}

fn pipelines(con: &mut redis::Connection) -> RedisResult<()> {
    let mut pipe = redis::pipe();
    for n in 0..5000 {
        pipe.set(format!("k{n}"), n).ignore().get(format!("k{n}"));
    }
    let found: Vec<i32> = pipe.query(con)?;
    assert_eq!(found, (0..5000).collect::<Vec<_>>());
    Ok(())
}

fn transactions(client: &redis::Client, con: &mut redis::Connection) -> RedisResult<()> {
    let mut disturbed = false;
    let (value,): (i64,) = redis::transaction(con, &["n"], |con, pipe| {
        let old: i64 = con.get::<_, Option<i64>>("n")?.unwrap_or(0);
        if !std::mem::replace(&mut disturbed, true) {
            let () = client.get_connection()?.incr("n", 10)?;
        }
        pipe.set("n", old + 1).ignore().get("n").query(con)
    })?;
    assert_eq!(value, 11, "the watched key changed, so the transaction ran a second time");
    Ok(())
}

fn publish_subscribe(client: &redis::Client) -> RedisResult<()> {
    let (mut publisher, mut listener) = (client.get_connection()?, client.get_connection()?);
    listener.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut subscriber = listener.as_pubsub();
    subscriber.subscribe("news")?;
    assert_eq!(publisher.publish::<_, _, i64>("news", "hello")?, 1);
    let message = subscriber.get_message()?;
    assert_eq!(
        (message.get_channel_name(), message.get_payload::<String>()?),
        ("news", "hello".to_owned())
    );
    Ok(())
}

async fn asynchronous(client: &redis::Client) -> RedisResult<()> {
    // By itself it gives a reply half a second: a busy machine may need more.
    let patient = redis::AsyncConnectionConfig::new()
        .set_connection_timeout(Some(Duration::from_secs(20)))
        .set_response_timeout(Some(Duration::from_secs(20)));
    let mut con = client.get_multiplexed_async_connection_with_config(&patient).await?;
    let () = con.set("async", 1).await?;
    let (a, b): (RedisResult<i64>, RedisResult<i64>) = {
        let (mut one, mut two) = (con.clone(), con.clone());
        tokio::join!(async move { one.incr("async", 1).await }, async move {
            two.incr("async", 1).await
        })
    };
    assert_eq!(HashSet::from([a?, b?]), HashSet::from([2, 3]));
    let mut subscriber = client.get_async_pubsub().await?;
    subscriber.subscribe("news").await?;
    subscriber.psubscribe("n*").await?;
    assert_eq!(con.publish::<_, _, i64>("news", "hello").await?, 2);
    let mut messages = subscriber.on_message();
    for _ in 0..2 {
        let message = tokio::time::timeout(Duration::from_secs(20), messages.next()).await;
        let message = message.expect("a message in time").expect("a message");
        assert_eq!(message.get_payload::<String>()?, "hello");
    }
    let mut other = client.get_multiplexed_async_connection_with_config(&patient).await?;
    let waiting = async { other.blpop::<_, (String, String)>("queue", 15.0).await };
    let pushing = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        con.rpush::<_, _, i64>("queue", "job").await
    };
    let (job, pushed) = tokio::join!(waiting, pushing);
    assert_eq!((job?, pushed?), (("queue".to_owned(), "job".to_owned()), 1));
    Ok(())
}
