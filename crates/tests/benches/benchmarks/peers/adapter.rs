//! How a server is called: the description of an adapter, a file of JSON. `waybill.json` is that of Waybill.
//!
//! In requests, a text that is a name in braces is replaced: `{user}`, `{key}`, `{driver}`, `{order}`, `{time}` by texts, `{latitude}` and
//! `{longitude}` by numbers, `{fixes}` by a list of `fix`.

use std::path::Path;

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::load::city::place_of;

/// Drivers are in one city, evenly, and so are the pickups.
const DRIVERS: usize = 4_000;
/// Fixes in a call.
const FIXES: usize = 100;

/// A server, and its calls.
pub struct Adapter {
    pub name: String,
    /// `http://host:port`; `None`: of Waybill, which the run starts itself.
    pub address: Option<String>,
    /// A file of descriptors, as `buf build -o` writes it; `None`: Waybill's own.
    pub descriptors: Option<String>,
    /// What each call carries, such as `authorization`.
    pub metadata: Map<String, Value>,
    pub order: Call,
    /// What ends an order; `None`: its creation.
    pub complete: Option<Call>,
    pub fixes: Option<Call>,
    fix: Value,
}

/// A unary call.
pub struct Call {
    /// `package.Service/Method`.
    pub method: String,
    request: Value,
    /// What an answer says that is as it should be: values by JSON pointers.
    expect: Map<String, Value>,
    /// Where an answer has the order's id.
    id: Option<String>,
}

impl Adapter {
    /// The description in this file.
    pub fn read(path: &Path) -> Adapter {
        let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Adapter::parse(&text, &path.display().to_string())
    }

    /// Waybill's own, for the server there.
    pub fn waybill(address: String) -> Adapter {
        Adapter {
            address: Some(address),
            ..Adapter::parse(include_str!("waybill.json"), "waybill.json")
        }
    }

    fn parse(text: &str, path: &str) -> Adapter {
        let json: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{path}: {error}"));
        let text = |name: &str| json[name].as_str().map(str::to_owned);
        let call = |name: &str| json.get(name).map(|call| Call::parse(call, &format!("{path}: {name}")));
        Adapter {
            name: text("name").unwrap_or_else(|| panic!("{path}: name: a text is missing")),
            address: text("address"),
            descriptors: text("descriptors"),
            metadata: json["metadata"].as_object().cloned().unwrap_or_default(),
            order: call("order").unwrap_or_else(|| panic!("{path}: order: a call is missing")),
            complete: call("complete"),
            fixes: call("fixes"),
            fix: json["fixes"]["fix"].clone(),
        }
    }

    /// The request for an order of a new customer, at the place of one of the drivers.
    pub fn order_request(&self, number: usize) -> Value {
        let place = place_of(number % DRIVERS, DRIVERS);
        fill(&self.order.request, &|name| match name {
            "user" => json!(format!("peer-{}", Uuid::new_v4().simple())),
            "key" => json!(Uuid::new_v4().to_string()),
            "latitude" => json!(place.latitude()),
            "longitude" => json!(place.longitude()),
            _ => unknown(name),
        })
    }

    /// The request for fixes, the next ones of the fleet, now.
    pub fn fixes_request(&self, fixes: &Call, number: usize) -> Value {
        let first = number * FIXES;
        let list = (first..first + FIXES).map(|driver| {
            let (driver, place) = (driver % DRIVERS, place_of(driver % DRIVERS, DRIVERS));
            fill(&self.fix, &|name| match name {
                "driver" => json!(format!("peer-driver-{driver}")),
                "latitude" => json!(place.latitude()),
                "longitude" => json!(place.longitude()),
                "time" => json!(Timestamp::now().to_string()),
                _ => unknown(name),
            })
        });
        let list = Value::Array(list.collect());
        fill(&fixes.request, &|name| match name {
            "fixes" => list.clone(),
            _ => unknown(name),
        })
    }

    /// Fixes in a call, and calls for the whole fleet.
    pub fn fleet() -> (usize, usize) {
        (FIXES, DRIVERS / FIXES)
    }
}

impl Call {
    fn parse(json: &Value, path: &str) -> Call {
        let method = json["method"].as_str();
        Call {
            method: method
                .unwrap_or_else(|| panic!("{path}.method: package.Service/Method is missing"))
                .to_owned(),
            request: json["request"].clone(),
            expect: json["expect"].as_object().cloned().unwrap_or_default(),
            id: json["id"].as_str().map(str::to_owned),
        }
    }

    /// The request that names this order.
    pub fn request_of(&self, order: &Value) -> Value {
        fill(&self.request, &|name| match name {
            "order" => order.clone(),
            _ => unknown(name),
        })
    }

    /// The order's id in an answer that is as it should be. Any other ends the run: a benchmark with errors in it is none.
    pub fn check(&self, answer: &Value) -> Value {
        for (pointer, expected) in &self.expect {
            let found = answer.pointer(pointer).unwrap_or(&Value::Null);
            assert_eq!(found, expected, "{} answered {answer}", self.method);
        }
        let id = self.id.as_ref().and_then(|pointer| answer.pointer(pointer));
        id.cloned().unwrap_or_default()
    }
}

/// The value with its names replaced.
fn fill(value: &Value, of: &impl Fn(&str) -> Value) -> Value {
    match value {
        Value::String(text) => match text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) {
            Some(name) => of(name),
            None => value.clone(),
        },
        Value::Array(values) => values.iter().map(|value| fill(value, of)).collect(),
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| (name.clone(), fill(value, of)))
            .collect(),
        _ => value.clone(),
    }
}

fn unknown(name: &str) -> Value {
    panic!("{{{name}}} is not known here")
}
