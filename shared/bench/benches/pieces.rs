//! What the inner pieces cost that every view goes through: `cargo bench -p bench --bench pieces`.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use testkit::tokens::{SECRET, SigningKey, Token};
use views_auth::{KeySource, TokenRules, Verifier};
use views_core::{
    ids::{PostId, ViewerId},
    keys::{Keys, field},
};
use views_postgres::ledger::{self, Pair};
use views_redis::resp::{Commands, Replies, Reply};

const POST: &str = "550e8400-e29b-41d4-a716-446655440000";
const VIEWER: &str = "6ba7b810-9dad-41d1-80b4-00c04fd430c8";
/// Pairs in one transaction of view-syncd, by default.
const BATCH: u128 = 10_000;

fn ids(criterion: &mut Criterion) {
    criterion.bench_function("post id, a UUID", |bencher| bencher.iter(|| PostId::parse(black_box(POST))));
    criterion.bench_function("post id, a word", |bencher| bencher.iter(|| PostId::parse(black_box("how-to-count-views"))));
    criterion.bench_function("viewer id, a UUID", |bencher| bencher.iter(|| ViewerId::parse(black_box(VIEWER))));
}

fn key_names(criterion: &mut Criterion) {
    let post = PostId::parse(POST).expect("the id is valid");
    let keys = Keys::default();
    criterion.bench_function("key of a set", |bencher| bencher.iter(|| keys.views(black_box(&post))));
    criterion.bench_function("key of a hash", |bencher| bencher.iter(|| keys.meta(black_box(&post))));
}

/// A verifier remembers the tokens that it has verified, so each is measured twice: by one that has never seen it, and
/// by one that has.
fn tokens(criterion: &mut Criterion) {
    let token = Token::new(VIEWER);
    let elliptic = SigningKey::es256();
    let secret = || KeySource::Secret(SECRET.to_owned().into());
    let public_key = || KeySource::PublicKeyFile(elliptic.public_key_file().to_owned());
    let cases: [(&str, &dyn Fn() -> KeySource, String); 2] =
        [("HS256", &secret, token.hs256(SECRET)), ("ES256", &public_key, token.sign(&elliptic))];
    for (name, source, token) in cases {
        let verifier = || Verifier::new(source(), TokenRules::default()).expect("the key is valid");
        let header = format!("Bearer {token}");
        let identify = |verifier: &Verifier| verifier.identify(black_box(Some(header.as_bytes()))).expect("the token is valid");
        criterion.bench_function(&format!("token, {name}, for the first time"), |bencher| {
            bencher.iter_batched(verifier, |verifier| (identify(&verifier), verifier), BatchSize::SmallInput);
        });
        let verifier = verifier();
        criterion.bench_function(&format!("token, {name}, again"), |bencher| bencher.iter(|| identify(&verifier)));
    }
}

fn pairs(criterion: &mut Criterion) {
    let post = PostId::parse(POST).expect("the id is valid");
    // An odd factor scatters the numbers, as UUIDs are.
    let viewer = |number: u128| ViewerId::parse(&uuid::Uuid::from_u128(number.wrapping_mul(u128::MAX / 3 * 2 + 1)).to_string());
    let pairs: Vec<Pair> =
        (0..BATCH).map(|number| Pair { post, viewer: viewer(number).expect("the id is valid"), at_ms: 0 }).collect();
    criterion.bench_function("10,000 pairs sorted for the ledger", |bencher| {
        bencher.iter(|| {
            let mut pairs = pairs.clone();
            ledger::prepare(&mut pairs);
            pairs
        });
    });
}

/// Redis's protocol, as a batch of new views, one of each of a hundred posts, needs it.
fn protocol(criterion: &mut Criterion) {
    let (post, viewer) = (PostId::parse(POST).expect("the id is valid"), ViewerId::parse(VIEWER).expect("the id is valid"));
    let keys = Keys::default();
    let (views, meta) = (keys.views_parts(&post), keys.meta_parts(&post));
    let mut commands = Commands::default();
    criterion.bench_function("commands for 100 posts, written", |bencher| {
        bencher.iter(|| {
            commands.clear();
            for _ in 0..100 {
                commands.command("SMISMEMBER", 2).parts(black_box(&views)).text(viewer.as_str());
                commands.command("HMGET", 6).parts(&meta);
                commands.text(field::AUTHOR).text(field::PERSISTED).text(field::RECORDED).text(field::ACKED).text(field::LOADED);
                commands.command("SADD", 2).parts(&views).text(viewer.as_str());
                commands.command("EXPIRE", 2).parts(&views).number(black_box(86_400));
                commands.command("HINCRBY", 3).parts(&meta).text(field::RECORDED).number(black_box(1));
                commands.command("EXPIRE", 2).parts(&meta).number(black_box(86_400));
            }
            commands.len()
        });
    });
    let replies =
        format!("*1\r\n:0\r\n*5\r\n$36\r\n{VIEWER}\r\n$2\r\n17\r\n$1\r\n3\r\n$1\r\n2\r\n$1\r\n1\r\n:1\r\n:1\r\n:4\r\n:1\r\n");
    let replies = replies.repeat(100).into_bytes();
    criterion.bench_function("replies for 100 posts, read", |bencher| {
        let read = |bytes| Replies::decode(bytes, 600).expect("they are replies").iter().filter_map(Reply::number).sum::<i64>();
        bencher.iter_batched(|| replies.clone(), read, BatchSize::SmallInput);
    });
}

criterion_group!(pieces, ids, key_names, tokens, protocol, pairs);
criterion_main!(pieces);
