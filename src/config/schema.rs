//! The tier file as a JSON Schema (2020-12), which a TOML language server uses. It is made of the same table that the
//! parser asks for its keys.

use serde_json::{Map, Value, json};
use toml::de::{DeTable, DeValue};

use super::keys::{self, Key, Kind, PASSWORDS, SECRET, Section, Without};
use super::shape::{self, Shape};

/// The schema. What no schema can say, such as a port that is published twice, only `wasagent check` finds.
#[must_use]
pub fn schema() -> Value {
    let mut schema = section("");
    let said = [
        (
            "$schema",
            json!("https://json-schema.org/draft/2020-12/schema"),
        ),
        ("title", json!("wasagent-tier.toml(5)")),
        (
            "anyOf",
            json!([{ "required": ["storage"] }, { "required": ["was"] }]),
        ),
        ("allOf", json!([database_where_used()])),
    ];
    for (key, value) in said {
        schema.insert(key.to_owned(), value);
    }
    Value::Object(schema)
}

/// A table of known keys.
fn section(name: &str) -> Map<String, Value> {
    let Some(section) = keys::section(name) else {
        return Map::new();
    };
    let properties = section
        .keys
        .iter()
        .map(|key| (key.name.to_owned(), property(section, key)));
    let required = section
        .keys
        .iter()
        .filter(|key| key.without == Without::Fault);
    let required: Vec<&str> = required.map(|key| key.name).collect();
    let mut schema = object(json!({
        "type": "object",
        "description": section.about,
        "properties": Map::from_iter(properties),
        "additionalProperties": false,
    }));
    if !required.is_empty() {
        schema.insert("required".to_owned(), json!(required));
    }
    if section.keys.iter().any(|key| key.name == PASSWORDS[0]) {
        let ways = PASSWORDS.map(|way| json!({ "required": [way] }));
        schema.insert("oneOf".to_owned(), json!(ways));
    }
    schema
}

fn property(section: &Section, key: &Key) -> Value {
    let mut schema = kind(&path(section, key), key);
    schema.insert("description".to_owned(), description(key).into());
    if let Without::Default(value) = key.without {
        schema.insert("default".to_owned(), value_of(value));
    }
    if !key.example.is_empty() {
        schema.insert("examples".to_owned(), json!([value_of(key.example)]));
    }
    Value::Object(schema)
}

/// The key with its section: `was.container.publish`.
fn path(section: &Section, key: &Key) -> String {
    match section.name {
        "" => key.name.to_owned(),
        name => format!("{name}.{}", key.name),
    }
}

fn description(key: &Key) -> String {
    let mut text = format!("{}.", key.about);
    if !key.range.is_empty() {
        text.push_str(&format!("\nTakes {}.", key.range));
    }
    match key.without {
        Without::Fault => {}
        Without::Default(value) => text.push_str(&format!("\nDefault: {value}")),
        Without::Means(means) => text.push_str(&format!("\nLeft out: {means}.")),
    }
    if !key.disturbs.is_empty() {
        text.push_str(&format!("\nChanging it disturbs {}.", key.disturbs));
    }
    text
}

fn kind(path: &str, key: &Key) -> Map<String, Value> {
    match key.kind {
        Kind::Section => section(path),
        Kind::Sections => object(json!({ "type": "array", "minItems": 1, "items": section(path) })),
        Kind::Text(shape) => text(&shape()),
        Kind::List(shape) => list(path, &shape()),
        Kind::Boolean => object(json!({ "type": "boolean" })),
        Kind::Number(range) => {
            object(json!({ "type": "integer", "minimum": range.start(), "maximum": range.end() }))
        }
        Kind::Entries(names, values) => {
            let mut schema = entries(&names(), text(&values()));
            if key.without == Without::Fault {
                schema.insert("minProperties".to_owned(), json!(1));
            }
            schema
        }
        Kind::Secrets(names) => entries(&names(), section(SECRET)),
    }
}

fn entries(names: &Shape, values: Map<String, Value>) -> Map<String, Value> {
    object(
        json!({ "type": "object", "propertyNames": text(names), "additionalProperties": values }),
    )
}

fn list(path: &str, shape: &Shape) -> Map<String, Value> {
    let mut schema = object(json!({ "type": "array", "minItems": 1, "items": text(shape) }));
    if path == "was.container.publish" {
        // Health asks a TCP port.
        schema.insert(
            "contains".to_owned(),
            json!({ "not": { "pattern": shape::UDP } }),
        );
        schema.insert("uniqueItems".to_owned(), json!(true));
    }
    schema
}

fn text(shape: &Shape) -> Map<String, Value> {
    let mut schema = object(json!({ "type": "string" }));
    if !shape.words.is_empty() {
        schema.insert("enum".to_owned(), json!(shape.words));
    }
    if let Some(pattern) = &shape.pattern {
        schema.insert("pattern".to_owned(), json!(pattern));
    }
    if let Some(longest) = shape.longest {
        schema.insert("maxLength".to_owned(), json!(longest));
    }
    let patterns = |all: &[String]| {
        all.iter()
            .map(|pattern| json!({ "pattern": pattern }))
            .collect::<Value>()
    };
    if !shape.never.is_empty() {
        schema.insert("not".to_owned(), json!({ "anyOf": patterns(&shape.never) }));
    }
    schema
}

/// A value that stands for one of the database needs the section.
fn database_where_used() -> Value {
    let none =
        json!({ "additionalProperties": { "not": { "pattern": shape::of_the_database() } } });
    let within = ["set", "items", "edit", "content", "storage"];
    let unused = within.into_iter().fold(none, |schema, name| match name {
        "items" => json!({ "items": schema }),
        name => json!({ "properties": { name: schema } }),
    });
    json!({ "anyOf": [{ "required": ["database"] }, unused] })
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// A value of TOML, as it stands in the table.
fn value_of(text: &str) -> Value {
    let document = format!("v={text}");
    let (table, _) = DeTable::parse_recoverable(&document);
    table
        .get_ref()
        .get("v")
        .map_or(Value::Null, |value| json_of(value.get_ref()))
}

/// A value of TOML as JSON.
pub(super) fn json_of(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => json!(text.as_ref()),
        DeValue::Integer(number) => {
            json!(i64::from_str_radix(number.as_str(), number.radix()).unwrap_or(i64::MAX))
        }
        DeValue::Float(number) => json!(number.as_str().parse::<f64>().ok()),
        DeValue::Boolean(truth) => json!(truth),
        DeValue::Datetime(time) => json!(time.to_string()),
        DeValue::Array(items) => items.iter().map(|item| json_of(item.get_ref())).collect(),
        DeValue::Table(table) => {
            let entries = table
                .iter()
                .map(|(key, value)| (key.get_ref().to_string(), json_of(value.get_ref())));
            Value::Object(entries.collect())
        }
    }
}
