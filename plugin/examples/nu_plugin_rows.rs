//! Plugin that streams generated rows: the baseline for the cost of a table that a plugin sends.
//!
//! `rows 10000` streams 10,000 rows of two strings and uses no crate but `nu_plugin`. The example `nushell_costs`
//! compares `nu_plugin_oci` with this plugin.

use nu_plugin::{EngineInterface, EvaluatedCall, MsgPackSerializer, Plugin, PluginCommand};
use nu_protocol::{
    LabeledError, ListStream, PipelineData, Signals, Signature, SyntaxShape, Type, Value, record,
};

struct Rows;

impl Plugin for Rows {
    fn version(&self) -> String {
        env!("CARGO_PKG_VERSION").into()
    }

    fn commands(&self) -> Vec<Box<dyn PluginCommand<Plugin = Self>>> {
        vec![Box::new(Stream)]
    }
}

struct Stream;

impl PluginCommand for Stream {
    type Plugin = Rows;

    fn name(&self) -> &'static str {
        "rows"
    }

    fn signature(&self) -> Signature {
        Signature::build(self.name())
            .required("count", SyntaxShape::Int, "Number of rows")
            .input_output_type(Type::Nothing, Type::table())
    }

    fn description(&self) -> &'static str {
        "Stream generated rows."
    }

    fn run(
        &self,
        _: &Rows,
        _: &EngineInterface,
        call: &EvaluatedCall,
        _: PipelineData,
    ) -> Result<PipelineData, LabeledError> {
        let (count, span): (i64, _) = (call.req(0)?, call.head);
        let rows = (0..count).map(move |at| {
            let row = record! {
                "name" => Value::string(format!("2.{at}.0"), span),
                "reference" => Value::string(format!("127.0.0.1:12345/many:2.{at}.0"), span),
            };
            Value::record(row, span)
        });
        let rows = ListStream::new(rows, span, Signals::empty());
        Ok(PipelineData::list_stream(rows, None))
    }
}

fn main() {
    nu_plugin::serve_plugin(&Rows, MsgPackSerializer);
}
