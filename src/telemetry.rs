//! Log lines: text or JSON on standard error, filtered by `RUST_LOG`; and what an error says in one of them.
//!
//! A line of text is one line whatever it tells of, and each of its fields can be read back: see [`quote`].

use crate::cli::LogFormat;
use roomrobot_core::{printable::printable, quoted::quote};
use std::fmt::Debug;
use tracing::{
    Dispatch,
    field::{Field, Visit},
};
use tracing_subscriber::{
    EnvFilter,
    field::RecordFields,
    fmt,
    fmt::{FormatFields, MakeWriter, format::Writer},
    util::SubscriberInitExt as _,
};

/// What is logged when `RUST_LOG` says nothing: our own lines, and what libraries warn of.
const DEFAULT: &str = "warn,roomrobot_operator=info,audit=info,kube_client=off,kube_runtime=off";

/// Starts logging. A panic, which has lines of its own, becomes one line as well.
pub fn start(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT));
    lines(format, filter, std::io::stderr).init();
    std::panic::set_hook(Box::new(|panic| tracing::error!(%panic, "this is a defect of the operator")));
}

/// What makes lines in this format of what is logged, and writes those that `filter` lets through.
pub fn lines<W>(format: LogFormat, filter: EnvFilter, writer: W) -> Dispatch
where
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    let lines = fmt().with_env_filter(filter).with_writer(writer);
    match format {
        LogFormat::Text => lines.with_ansi(false).fmt_fields(TextFields).into(),
        LogFormat::Json => {
            lines.json().flatten_event(true).with_current_span(false).with_span_list(false).into()
        }
    }
}

/// The fields of a line of text. Texts that are recorded as such are quoted always, as `tracing` does it.
struct TextFields;

impl<'writer> FormatFields<'writer> for TextFields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'writer>, fields: R) -> std::fmt::Result {
        let mut line = Line { writer, begun: false, result: Ok(()) };
        fields.record(&mut line);
        line.result
    }
}

struct Line<'writer> {
    writer: Writer<'writer>,
    begun: bool,
    result: std::fmt::Result,
}

impl Line<'_> {
    fn put(&mut self, field: &Field, value: &str) {
        let blank = if std::mem::replace(&mut self.begun, true) { " " } else { "" };
        let result = match field.name() {
            "message" => write!(self.writer, "{blank}{}", printable(value)),
            name => write!(self.writer, "{blank}{}={value}", name.trim_start_matches("r#")),
        };
        self.result = self.result.and(result);
    }
}

impl Visit for Line<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.put(field, value),
            _ => self.put(field, &format!("{value:?}")),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let value = format!("{value:?}");
        match field.name() {
            "message" => self.put(field, &value),
            _ => self.put(field, &quote(value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io,
        sync::{Arc, Mutex, PoisonError},
    };

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What the lines of `work` are in the text format, without their times.
    fn lines(work: impl FnOnce()) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = fmt()
            .with_ansi(false)
            .fmt_fields(TextFields)
            .without_time()
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, work);
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn plain_values_are_bare_and_others_are_quoted() {
        let text = lines(|| {
            let (room, robot) = ("a robot=b code=0", "b\"c\\d");
            tracing::info!(
                target: "audit", name = %"greeter", %room, %robot, code = 100_006, failed = true, id = "Id-1",
                empty = %"", old = ?Some(1), none = Option::<&str>::None, wide = %"größe", "call"
            );
        });
        assert_eq!(
            text,
            concat!(
                r#" INFO audit: call name=greeter room="a robot=b code=0" robot="b\"c\\d" code=100006"#,
                r#" failed=true id="Id-1" empty= old=Some(1) wide=größe"#,
                "\n"
            )
        );
    }

    #[test]
    fn nothing_starts_a_line_or_moves_a_cursor() {
        let odd = "x\n2026-01-31T12:00:00Z  INFO audit: call\u{1b}[2J\u{9b}\u{202e}\u{2066}\r";
        let error = io::Error::other(odd);
        let text = lines(|| {
            tracing::warn!(reason = %odd, ?error, text = odd, "could not write: {odd}");
            tracing::warn!(error = &error as &(dyn std::error::Error + 'static), "an error");
            tracing::error!(panic = %format_args!("panicked at src/x.rs:1:1:\n{odd}"), "a panic");
        });
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(text.lines().all(|line| printable(line) == line), "{text:?}");
        assert!(
            text.contains(r"could not write: x\n2026-01-31T12:00:00Z  INFO audit: call\u{1b}[2J"),
            "{text}"
        );
    }
}
