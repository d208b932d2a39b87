//! Conversion of JSON documents to Nushell values.
//!
//! The values are not interpreted: keys keep their order and names, and strings stay strings even if they contain a
//! date or a size. The caller has verified the digest of the bytes.

use std::fmt;

use nu_protocol::{Record, Span, Value};
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Parses a JSON document. Fails if anything except whitespace follows the document.
pub(crate) fn read(bytes: &[u8], span: Span) -> serde_json::Result<Value> {
    let mut document = serde_json::Deserializer::from_slice(bytes);
    let value = JsonValueSeed(span).deserialize(&mut document)?;
    document.end()?;
    Ok(value)
}

/// Deserializer of any JSON value.
#[derive(Clone, Copy)]
struct JsonValueSeed(Span);

impl<'de> DeserializeSeed<'de> for JsonValueSeed {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for JsonValueSeed {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::nothing(self.0))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::bool(value, self.0))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::int(value, self.0))
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "Nushell has no larger integers; its `from json` loses the same precision"
    )]
    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(match i64::try_from(value) {
            Ok(value) => Value::int(value, self.0),
            Err(_) => Value::float(value as f64, self.0),
        })
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(Value::float(value, self.0))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::string(value, self.0))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            list.push(item);
        }
        Ok(Value::list(list, self.0))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut record = Record::new();
        while let Some(JsonKey(key)) = fields.next_key()? {
            // If a key occurs twice, the last value is used, as in other JSON parsers.
            record.insert(key, fields.next_value_seed(self)?);
        }
        Ok(Value::record(record, self.0))
    }
}

/// Key of a JSON object.
struct JsonKey(String);

impl<'de> Deserialize<'de> for JsonKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> serde_json::Result<Value> {
        read(text.as_bytes(), Span::test_data())
    }

    #[test]
    fn json_document_keeps_key_order_and_types() {
        let value = read_text(
            r#"{"b":[1,-2,2.5,true,null],"a":{"x":"2026-01-02"},"b2":18446744073709551615}"#,
        );
        let value = value.unwrap();
        let record = value.as_record().unwrap();
        assert_eq!(record.columns().collect::<Vec<_>>(), ["b", "a", "b2"]);
        let list = Value::test_list(vec![
            Value::test_int(1),
            Value::test_int(-2),
            Value::test_float(2.5),
            Value::test_bool(true),
            Value::test_nothing(),
        ]);
        assert_eq!(record["b"], list);
        let date = record["a"].as_record().unwrap()["x"].clone();
        assert_eq!(date, Value::test_string("2026-01-02"));
        assert!(matches!(record["b2"], Value::Float { .. }));
    }

    #[test]
    fn json_duplicate_key_uses_last_value() {
        let value = read_text(r#"{"a":1,"b":2,"a":3}"#).unwrap();
        assert_eq!(value.as_record().unwrap().len(), 2);
        assert_eq!(value.as_record().unwrap()["a"], Value::test_int(3));
    }

    #[test]
    fn invalid_json_document_is_rejected() {
        for text in ["", "{", "<html>", "{} {}", &"[".repeat(100_000)] {
            assert!(read_text(text).is_err(), "{text:.10}");
        }
    }
}
