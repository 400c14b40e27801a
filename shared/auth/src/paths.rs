//! Where claims stand in a token, and which of them make an administrator.

use serde_json::{Map, Value};
use views_core::ids::ViewerId;

/// All claims of a token.
pub(super) type Claims = Map<String, Value>;

/// The longest path, in bytes.
const MAX_PATH: usize = 256;

/// Where in a token a claim stands, such as `sub`, `user.id` or `https://site.example/roles`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimPath(String);

impl Default for ClaimPath {
    /// Returns the path of the subject.
    fn default() -> Self {
        Self("sub".to_owned())
    }
}

impl ClaimPath {
    /// Parses a path.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let text = text.trim();
        if text.is_empty() {
            Err("is empty")
        } else if text.len() > MAX_PATH {
            Err("has more than 256 bytes")
        } else if text.contains(char::is_control) {
            Err("has control characters")
        } else {
            Ok(Self(text.to_owned()))
        }
    }

    /// Returns what stands there; `None` where nothing does, or null.
    pub(super) fn find<'c>(&self, claims: &'c Claims) -> Option<&'c Value> {
        find(claims, &self.0)
    }
}

/// Names may hold dots, as those that are URLs do. So the whole path is a name first, and is then divided at one of its
/// dots, the last one first.
fn find<'c>(claims: &'c Claims, path: &str) -> Option<&'c Value> {
    claims
        .get(path)
        .filter(|value| !value.is_null())
        .or_else(|| path.rmatch_indices('.').find_map(|(dot, _)| find(claims.get(&path[..dot])?.as_object()?, &path[dot + 1..])))
}

/// Who is an administrator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Administrators {
    claims: Vec<AdminClaim>,
    ids: Vec<ViewerId>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct AdminClaim {
    path: ClaimPath,
    value: String,
}

impl Default for Administrators {
    /// Returns those whose claim `role` is `ADMIN`.
    fn default() -> Self {
        let role = AdminClaim { path: ClaimPath("role".to_owned()), value: "ADMIN".to_owned() };
        Self { claims: vec![role], ids: Vec::new() }
    }
}

impl Administrators {
    /// Returns those of whom one of these claims holds, or who have one of these ids.
    pub(super) fn new(claims: Vec<(ClaimPath, String)>, ids: Vec<ViewerId>) -> Self {
        let claims = claims.into_iter().map(|(path, value)| AdminClaim { path, value }).collect();
        Self { claims, ids }
    }

    pub(super) fn have(&self, viewer: &ViewerId, claims: &Claims) -> bool {
        self.ids.contains(viewer) || self.claims.iter().any(|claim| claim.holds(claims))
    }
}

/// Parses `PATH=VALUE`. Distinguished names have equals signs in their values, and hardly any claim has one in its name.
pub(super) fn admin_claim(text: &str) -> Result<(ClaimPath, String), String> {
    let (path, value) = text.split_once('=').ok_or_else(|| format!("{text:?} is not PATH=VALUE, such as role=ADMIN"))?;
    let path = ClaimPath::parse(path).map_err(|error| format!("the path of {text:?} {error}"))?;
    let value = value.trim();
    if value.is_empty() { Err(format!("{text:?} has no value")) } else { Ok((path, value.to_owned())) }
}

impl AdminClaim {
    fn holds(&self, claims: &Claims) -> bool {
        match self.path.find(claims) {
            Some(Value::Array(values)) => values.iter().any(|value| self.is(value)),
            Some(value) => self.is(value),
            None => false,
        }
    }

    fn is(&self, value: &Value) -> bool {
        match value {
            Value::String(text) => *text == self.value,
            Value::Bool(is) => self.value == if *is { "true" } else { "false" },
            Value::Number(number) => number.to_string() == self.value,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(path: &str, claims: Value) -> Option<Value> {
        let Value::Object(claims) = claims else { panic!("{claims}") };
        ClaimPath::parse(path).unwrap().find(&claims).cloned()
    }

    #[test]
    fn a_path_is_a_name_first_and_is_then_divided_at_its_dots() {
        let hasura = json!({ "https://hasura.io/jwt/claims": { "x-hasura-user-id": "7", "a.b": { "c": 1 } } });
        for (path, claims, found) in [
            ("sub", json!({ "sub": "7" }), Some(json!("7"))),
            ("user.id", json!({ "user": { "id": 7 } }), Some(json!(7))),
            ("user.id", json!({ "user.id": 1, "user": { "id": 7 } }), Some(json!(1))),
            ("user.id", json!({ "user.id": null, "user": { "id": 7 } }), Some(json!(7))),
            ("a.b.c", json!({ "a.b": { "c": 1 }, "a": { "b.c": 2, "b": { "c": 3 } } }), Some(json!(1))),
            ("a.b.c", json!({ "a.b": { "d": 1 }, "a": { "b": { "c": 3 } } }), Some(json!(3))),
            ("a.b.c", json!({ "a.b": 5, "a": { "b.c": 2 } }), Some(json!(2))),
            ("https://x.example/user_id", json!({ "https://x.example/user_id": "7" }), Some(json!("7"))),
            ("https://hasura.io/jwt/claims.x-hasura-user-id", hasura.clone(), Some(json!("7"))),
            ("https://hasura.io/jwt/claims.a.b.c", hasura, Some(json!(1))),
            ("sub.id", json!({ "sub": "7" }), None),
            ("sub.0", json!({ "sub": ["7"] }), None),
            ("sub", json!({ "sub": null }), None),
            ("sub", json!({ "Sub": "7" }), None),
            ("user.", json!({ "user": { "": 7 } }), Some(json!(7))),
            (".", json!({ "": { "": 7 } }), Some(json!(7))),
        ] {
            assert_eq!(at(path, claims.clone()), found, "{path} in {claims}");
        }
        for bad in ["", " ", "a\nb", &"x".repeat(257)] {
            assert!(ClaimPath::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_administrator_has_the_value_a_list_with_it_or_the_id() {
        let holds = |rule: &str, claims: Value| {
            let Value::Object(claims) = claims else { panic!("{claims}") };
            let administrators = Administrators::new(vec![admin_claim(rule).unwrap()], Vec::new());
            administrators.have(&ViewerId::parse("7").unwrap(), &claims)
        };
        for (rule, claims) in [
            ("role=ADMIN", json!({ "role": "ADMIN" })),
            ("role=ADMIN", json!({ "role": ["USER", "ADMIN"] })),
            ("realm_access.roles=admin", json!({ "realm_access": { "roles": ["admin"] } })),
            ("https://x.example/roles=admin", json!({ "https://x.example/roles": ["admin"] })),
            ("groups=CN=Admins", json!({ "groups": ["CN=Admins"] })),
            ("is_staff=true", json!({ "is_staff": true })),
            ("level=9", json!({ "level": 9 })),
            (" role = Super Admin ", json!({ "role": "Super Admin" })),
        ] {
            assert!(holds(rule, claims.clone()), "{rule} in {claims}");
        }
        for (rule, claims) in [
            ("role=ADMIN", json!({ "role": "admin" })),
            ("role=ADMIN", json!({ "role": "ADMIN USER" })),
            ("role=ADMIN", json!({ "role": [["ADMIN"]] })),
            ("role=ADMIN", json!({ "role": { "ADMIN": true } })),
            ("role=ADMIN", json!({ "roles": "ADMIN" })),
            ("is_staff=true", json!({ "is_staff": 1 })),
            ("level=9", json!({ "level": 9.0 })),
        ] {
            assert!(!holds(rule, claims.clone()), "{rule} in {claims}");
        }
        for bad in ["role", "=ADMIN", "role=", "role= "] {
            assert!(admin_claim(bad).is_err(), "{bad}");
        }
        let ids = Administrators::new(Vec::new(), vec![ViewerId::parse("7").unwrap()]);
        assert!(ids.have(&ViewerId::parse("7").unwrap(), &Map::new()));
        assert!(!ids.have(&ViewerId::parse("70").unwrap(), &Map::new()));
    }
}
