//! What a token says: who its viewer is, whether they are an administrator, and from when until when it holds.
//!
//! The claims are read here and not by the library that has checked the signature: it stumbles over a `sub` that is an
//! object, and the viewer may stand anywhere. A test compares what is said of times, issuers and audiences with it.

use serde_json::Value;
use views_core::ids::ViewerId;

use super::{identity::Identity, paths::Claims, refusals::Reason, rules::TokenRules};

/// Returns whom the claims speak for.
pub(super) fn identity(claims: &Claims, rules: &TokenRules) -> Result<Identity, Reason> {
    let viewer = viewer(rules.viewer_claim.find(claims))?;
    Ok(Identity { viewer, admin: rules.administrators.have(&viewer, claims) })
}

fn viewer(claim: Option<&Value>) -> Result<ViewerId, Reason> {
    let viewer = match claim.ok_or(Reason::NoViewer)? {
        Value::String(text) => ViewerId::parse(text).ok(),
        // The digits of a number that has a fraction, an exponent or more of them than 64 bits hold are not known.
        Value::Number(number) => number.as_u64().and_then(|number| ViewerId::parse(&number.to_string()).ok()),
        _ => None,
    };
    viewer.ok_or(Reason::BadViewer)
}

/// Returns until when the claims hold, in seconds since 1970, if they do at `now`.
pub(super) fn valid_until(claims: &Claims, rules: &TokenRules, now: f64) -> Result<f64, Reason> {
    let leeway = rules.leeway.as_secs_f64();
    let now = now.floor();
    let exp = claims.get("exp").and_then(moment).ok_or(Reason::NoExpiry)?;
    // A time to begin that cannot be read says nothing of when that is.
    let nbf = claims.get("nbf").map(|nbf| moment(nbf).ok_or(Reason::Malformed)).transpose()?;
    if exp.round() < now - leeway {
        return Err(Reason::Expired);
    }
    if nbf.is_some_and(|nbf| nbf.round() > now + leeway) {
        return Err(Reason::NotYet);
    }
    if !names(claims.get("iss"), rules.issuer.as_deref()) {
        return Err(Reason::Issuer);
    }
    if !names(claims.get("aud"), rules.audience.as_deref()) {
        return Err(Reason::Audience);
    }
    Ok(exp)
}

/// Reads seconds since 1970, perhaps with a fraction.
fn moment(value: &Value) -> Option<f64> {
    value.as_f64().filter(|seconds| (0.0..u64::MAX as f64).contains(seconds))
}

/// Returns whether a claim is what is demanded, or a list with it; whatever it is where nothing is demanded.
fn names(claim: Option<&Value>, demanded: Option<&str>) -> bool {
    let Some(demanded) = demanded else { return true };
    match claim {
        Some(Value::String(name)) => name == demanded,
        Some(Value::Array(names)) => names.iter().all(Value::is_string) && names.iter().any(|name| name == demanded),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jsonwebtoken::{Algorithm, DecodingKey, Validation, errors::ErrorKind};
    use proptest::prelude::*;
    use serde_json::json;
    use testkit::tokens::{SECRET, Token};

    use super::{super::token_cache::now, *};

    /// What the library says of the same claims.
    fn of_the_library(claims: &Claims, rules: &TokenRules) -> Result<(), Reason> {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.leeway = rules.leeway.as_secs();
        validation.validate_nbf = true;
        validation.validate_aud = rules.audience.is_some();
        if let Some(audience) = &rules.audience {
            validation.required_spec_claims.insert("aud".to_owned());
            validation.set_audience(&[audience]);
        }
        if let Some(issuer) = &rules.issuer {
            validation.required_spec_claims.insert("iss".to_owned());
            validation.set_issuer(&[issuer]);
        }
        let bare = Token::new("x").without("sub").without("iat").without("exp");
        let token = claims.iter().fold(bare, |token, (name, value)| token.claim(name, value.clone()));
        let key = DecodingKey::from_secret(SECRET.as_bytes());
        jsonwebtoken::decode::<Claims>(token.hs256(SECRET), &key, &validation).map(drop).map_err(|error| match error.kind() {
            ErrorKind::ExpiredSignature => Reason::Expired,
            ErrorKind::ImmatureSignature => Reason::NotYet,
            ErrorKind::InvalidIssuer => Reason::Issuer,
            ErrorKind::InvalidAudience => Reason::Audience,
            ErrorKind::MissingRequiredClaim(claim) | ErrorKind::InvalidClaimFormat(claim) => match claim.as_str() {
                "exp" => Reason::NoExpiry,
                "iss" => Reason::Issuer,
                "aud" => Reason::Audience,
                _ => Reason::Malformed,
            },
            other => panic!("{other:?} of {claims:?}"),
        })
    }

    /// A moment around now, or what is none. Lists and objects are what the library stumbles over.
    fn moment() -> impl Strategy<Value = Value> {
        let seconds = prop_oneof![-400_i32..400, Just(0), Just(-60), Just(60)];
        prop_oneof![
            4 => (seconds, 0_u8..4).prop_map(|(seconds, quarter)| match quarter {
                0 => json!(now() as i64 + i64::from(seconds)),
                _ => json!(now().floor() + f64::from(seconds) + f64::from(quarter) / 4.0),
            }),
            1 => any::<f64>().prop_map(Value::from),
            1 => any::<i64>().prop_map(Value::from),
            1 => any::<u64>().prop_map(Value::from),
            1 => prop_oneof![Just(json!(null)), Just(json!("tomorrow")), Just(json!("1893456000")), Just(json!(true))],
        ]
    }

    fn names() -> impl Strategy<Value = Value> {
        let name = || prop_oneof!["blog|views|x", Just(String::new())];
        prop_oneof![
            name().prop_map(Value::from),
            proptest::collection::vec(name(), 0..3).prop_map(Value::from),
            Just(json!(null)),
            Just(json!(7)),
            Just(json!({ "blog": "views" })),
            Just(json!(["blog", 7])),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn times_issuers_and_audiences_are_what_the_library_takes_them_for(
            (exp, nbf) in (moment(), moment()), (iss, aud) in (names(), names()), leeway in 0_u64..2,
            given in any::<[bool; 3]>(), demanded in any::<[bool; 2]>(),
        ) {
            let rules = TokenRules {
                issuer: demanded[0].then(|| "blog".to_owned()),
                audience: demanded[1].then(|| "views".to_owned()),
                leeway: Duration::from_secs(60 * leeway),
                ..TokenRules::default()
            };
            let mut claims = Claims::new();
            claims.insert("exp".to_owned(), exp);
            let others = [("nbf", nbf), ("iss", iss), ("aud", aud)];
            claims.extend(others.into_iter().zip(given).filter(|(_, given)| *given).map(|((name, value), _)| (name.to_owned(), value)));
            // Its clock must not go on between the two.
            let (before, library, after) = (now().floor(), of_the_library(&claims, &rules), now().floor());
            prop_assume!(before == after);
            let ours = valid_until(&claims, &rules, before);
            // Where several things are wrong, either may be told first.
            prop_assert_eq!(ours.is_ok(), library.is_ok(), "{:?}: {:?}, {:?}", claims, ours, library);
        }
    }

    #[test]
    fn what_is_wrong_with_times_issuers_and_audiences_is_told() {
        let rules = TokenRules { issuer: Some("blog".to_owned()), audience: Some("views".to_owned()), ..TokenRules::default() };
        let good = json!({ "exp": 1_000, "nbf": 900, "iss": "blog", "aud": ["x", "views"], "sub": { "id": 7 } });
        for (name, value, expected) in [
            ("exp", json!(1_000.75), Ok(1_000.75)),
            ("exp", json!(950), Ok(950.0)),
            ("exp", json!(949), Err(Reason::Expired)),
            ("exp", json!("1000"), Err(Reason::NoExpiry)),
            ("exp", json!([1_000]), Err(Reason::NoExpiry)),
            ("exp", json!(-1), Err(Reason::NoExpiry)),
            ("nbf", json!(950), Ok(1_000.0)),
            ("nbf", json!(951), Err(Reason::NotYet)),
            ("nbf", json!(null), Err(Reason::Malformed)),
            ("nbf", json!({}), Err(Reason::Malformed)),
            ("iss", json!(["blog"]), Ok(1_000.0)),
            ("iss", json!("Blog"), Err(Reason::Issuer)),
            ("aud", json!("views"), Ok(1_000.0)),
            ("aud", json!([]), Err(Reason::Audience)),
        ] {
            let mut claims = good.as_object().unwrap().clone();
            claims.insert(name.to_owned(), value.clone());
            assert_eq!(valid_until(&claims, &rules, 950.9), expected, "{name}: {value}");
            claims.remove(name);
            let without = ["nbf"].contains(&name);
            assert_eq!(valid_until(&claims, &rules, 950.9).is_ok(), without, "{name}");
        }
    }

    #[test]
    fn a_viewer_is_text_or_a_whole_number() {
        for (claim, expected) in [
            (json!("auth0|5f7c"), "auth0|5f7c"),
            (json!("550E8400-E29B-41D4-A716-446655440000"), "550e8400-e29b-41d4-a716-446655440000"),
            (json!("-1"), "-1"),
            (json!(0), "0"),
            (json!(42), "42"),
            (json!(9_007_199_254_740_993_u64), "9007199254740993"),
            (json!(u64::MAX), "18446744073709551615"),
        ] {
            assert_eq!(viewer(Some(&claim)).unwrap().as_str(), expected);
        }
        assert_eq!(viewer(None), Err(Reason::NoViewer));
        let numbers = ["-1", "-0", "1.0", "1.5", "1e3", "18446744073709551616"];
        let bad = numbers.map(|number| serde_json::from_str(number).unwrap());
        for claim in bad.into_iter().chain([json!(true), json!([7]), json!({ "id": 7 }), json!(""), json!("a b"), json!("имя")])
        {
            assert_eq!(viewer(Some(&claim)), Err(Reason::BadViewer), "{claim}");
        }
    }
}
