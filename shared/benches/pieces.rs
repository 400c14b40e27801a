//! What the small pieces cost that every view passes through: `cargo bench -p shared`. The whole is measured by `deploy/bench`.

use std::hint::black_box;

use criterion::Criterion;
use shared::{
    auth::{KeySource, TokenRules, Verifier},
    ids::{PostId, ViewerId},
    keys,
};
use testkit::tokens::{self, SigningKey};

const SECRET: &str = "a secret for benchmarks only";
const ID: &str = "550e8400-e29b-41d4-a716-446655440000";

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    token(&mut criterion);
    ids(&mut criterion);
    formatting(&mut criterion);
    criterion.final_summary();
}

fn token(criterion: &mut Criterion) {
    let verifier = |source| Verifier::new(source, TokenRules::default()).expect("the key is right");
    let (rsa, curve, edwards) = (SigningKey::rs256(), SigningKey::es256(), SigningKey::eddsa());
    let mut kinds = vec![("HS256", verifier(KeySource::Secret(SECRET.to_owned().into())), tokens::hs256(SECRET, ID))];
    for (name, key) in [("RS256", &rsa), ("ES256", &curve), ("EdDSA", &edwards)] {
        let source = KeySource::PublicKeyFile(key.public_key_file().to_owned());
        kinds.push((name, verifier(source), tokens::Token::new(ID).sign(key)));
    }
    let mut group = criterion.benchmark_group("a token is checked");
    for (name, verifier, token) in kinds {
        let header = format!("Bearer {token}").into_bytes();
        assert!(verifier.identify(Some(&header)).is_ok(), "{name}");
        group.bench_function(name, |bencher| bencher.iter(|| verifier.identify(black_box(Some(&header)))));
    }
    group.finish();
}

fn ids(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("an id is read");
    group.bench_function("post, UUID", |bencher| bencher.iter(|| PostId::parse(black_box(ID))));
    group.bench_function("post, number", |bencher| bencher.iter(|| PostId::parse(black_box("1234567"))));
    group.bench_function("viewer, UUID", |bencher| bencher.iter(|| ViewerId::parse(black_box(ID))));
    group.finish();
}

fn formatting(criterion: &mut Criterion) {
    let post = PostId::parse(ID).expect("the id is right");
    let mut group = criterion.benchmark_group("a key is formatted");
    group.bench_function("set", |bencher| bencher.iter(|| keys::views(black_box(&post))));
    group.bench_function("hash", |bencher| bencher.iter(|| keys::meta(black_box(&post))));
    group.finish();
}
