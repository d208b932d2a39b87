//! Progress bars with the position, rate and remaining time of each transfer.
//!
//! A bar reads its [`Meter`] ten times per second. To avoid flicker, a transfer that ends before the first read gets no
//! bar. Bars are shown under the same conditions as cargo's bars: stderr is a terminal that can move its cursor, and
//! the process does not run in CI. `CARGO_TERM_PROGRESS_WHEN` overrides these conditions.

use std::collections::BTreeMap;
use std::fmt;
use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use console::Term;
use indicatif::{
    MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle, TermLike,
};
use oci_registry::{Environment, Meter, escape};
use tokio::task::JoinHandle;

use crate::figures::Portion;
use crate::stdio;

/// Interval between two updates of the bars.
const UPDATE_INTERVAL: Duration = Duration::from_millis(100);

/// Maximum number of redraws per second.
const MAX_REDRAWS: u8 = 20;

/// Maximum number of bars. Without a limit, many small files could have bars at the same time, because a file keeps its
/// bar until it is renamed to its final name.
const MAX_BARS: usize = 32;

/// Width of the bars in columns, if stderr is not a terminal and `CARGO_TERM_PROGRESS_WIDTH` is not set.
const DEFAULT_WIDTH: u16 = 80;

/// Number of columns that the bars leave free at the right edge. The terminal prints `^C` there after Ctrl-C. If it
/// wrapped to another line, the bars could not be cleared.
const RIGHT_MARGIN: u16 = 3;

/// Columns of a line that are neither part of the name nor of the bar.
const FIXED_COLUMNS: u16 = 56;

/// All progress bars of the process.
#[derive(Debug, Clone)]
pub(crate) struct ProgressBars {
    bars: MultiProgress,
    /// Terminal whose width determines the widths of names and bars; `None` if the bars are hidden.
    terminal: Option<Arc<dyn TermLike>>,
}

impl ProgressBars {
    /// Creates the bars on stderr. The bars are hidden if the environment or `--quiet` disables them.
    pub(crate) fn new(environment: &Environment, is_quiet: bool) -> Self {
        let term = Term::stderr();
        let is_wanted = match environment.var("CARGO_TERM_PROGRESS_WHEN") {
            Some("always") => true,
            Some("never") => false,
            _ => {
                std::io::stderr().is_terminal()
                    && environment.var("TERM") != Some("dumb")
                    && environment.var("CI").is_none()
                    && environment.var("TF_BUILD").is_none()
            }
        };
        if is_quiet || !is_wanted {
            return Self::new_hidden();
        }
        let width = environment.var("CARGO_TERM_PROGRESS_WIDTH");
        let width = width.and_then(|width| width.parse().ok());
        let width = width.or_else(|| (!term.is_term()).then_some(DEFAULT_WIDTH));
        let is_line_complete = Arc::default();
        Self::with_terminal(FixedWidthTerm {
            term,
            width,
            is_line_complete,
        })
    }

    fn with_terminal(terminal: impl TermLike + Clone + 'static) -> Self {
        let drawn = Box::new(terminal.clone());
        let target = ProgressDrawTarget::term_like_with_hz(drawn, MAX_REDRAWS);
        Self {
            terminal: Some(Arc::new(terminal)),
            bars: MultiProgress::with_draw_target(target),
        }
    }

    fn new_hidden() -> Self {
        Self {
            terminal: None,
            bars: MultiProgress::with_draw_target(ProgressDrawTarget::hidden()),
        }
    }

    /// Clears the bars, runs a function that writes to the terminal, and draws the bars again.
    pub(crate) fn suspend<T>(&self, work: impl FnOnce() -> T) -> T {
        self.bars.suspend(work)
    }

    /// Starts a group of transfers. When the group is dropped, its bars are removed.
    ///
    /// `verb` is shown before the name of each transfer, such as `Pulling`. `expected` is the number of transfers and
    /// their total size in bytes, if known.
    pub(crate) fn start_batch(&self, verb: &'static str, expected: Option<(usize, u64)>) -> Batch {
        let transfers = Arc::new(Mutex::new(Transfers {
            bars: self.bars.clone(),
            terminal: self.terminal.clone(),
            verb,
            running: BTreeMap::new(),
            started: 0,
            finished: (0, 0),
            expected,
            total: None,
        }));
        let updater = (!self.bars.is_hidden()).then(|| {
            let transfers = Arc::clone(&transfers);
            tokio::spawn(async move {
                let mut updates = tokio::time::interval(UPDATE_INTERVAL);
                loop {
                    updates.tick().await;
                    lock(&transfers).update();
                }
            })
        });
        Batch { transfers, updater }
    }
}

/// Group of transfers whose bars show the same verb.
#[derive(Debug)]
pub(crate) struct Batch {
    transfers: Arc<Mutex<Transfers>>,
    updater: Option<JoinHandle<()>>,
}

impl Batch {
    /// Adds a transfer that has started. Its bar shows `name`. [`Batch::finish`] finds the transfer by `key`.
    pub(crate) fn start(&self, key: &str, name: &str, size: u64, meter: &Meter) {
        lock(&self.transfers).start(
            key,
            Transfer {
                name: stdio::escape_workflow_commands(&escape(name, 200)).into_owned(),
                size,
                meter: meter.clone(),
                bar: None,
            },
        );
    }

    /// Removes the transfer with this key after it succeeded or failed. A transfer that was never started is only
    /// counted as finished.
    pub(crate) fn finish(&self, key: &str, size: u64) {
        lock(&self.transfers).finish(key, size);
    }

    /// Returns a function that returns the total size of the finished transfers and of all expected transfers, in
    /// bytes. The function may be called after the group was dropped.
    pub(crate) fn totals(&self) -> impl Fn() -> (u64, u64) + Send + use<> {
        let transfers = Arc::clone(&self.transfers);
        move || {
            let transfers = lock(&transfers);
            let expected = transfers.expected.map_or(0, |(_, bytes)| bytes);
            (transfers.finished.1, expected)
        }
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        if let Some(updater) = &self.updater {
            updater.abort();
        }
        lock(&self.transfers).clear();
    }
}

fn lock(transfers: &Mutex<Transfers>) -> MutexGuard<'_, Transfers> {
    transfers.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug)]
struct Transfers {
    bars: MultiProgress,
    terminal: Option<Arc<dyn TermLike>>,
    verb: &'static str,
    /// Running transfers, by key and start number. Several transfers may have the same key.
    running: BTreeMap<(String, usize), Transfer>,
    /// Number of started transfers.
    started: usize,
    /// Number of finished transfers, and their total size in bytes.
    finished: (usize, u64),
    expected: Option<(usize, u64)>,
    /// Bar for all transfers together, drawn below their own bars.
    total: Option<ProgressBar>,
}

#[derive(Debug)]
struct Transfer {
    name: String,
    size: u64,
    meter: Meter,
    bar: Option<ProgressBar>,
}

impl Transfers {
    fn start(&mut self, key: &str, transfer: Transfer) {
        self.running
            .insert((key.to_owned(), self.started), transfer);
        self.started += 1;
    }

    /// Sets every bar to the value of its meter.
    fn update(&mut self) {
        // A file counts as complete after its last byte, even if it has not been renamed to its final name yet.
        let (mut complete, mut passed) = self.finished;
        let width = self
            .terminal
            .as_ref()
            .map_or(DEFAULT_WIDTH, |term| term.width());
        let has_bar = |transfer: &&Transfer| transfer.bar.is_some();
        let mut shown = self.running.values().filter(has_bar).count();
        for transfer in self.running.values_mut() {
            let at = transfer.meter.transferred_bytes().min(transfer.size);
            passed += at;
            complete += usize::from(at == transfer.size && at > 0);
            if transfer.bar.is_none() {
                if at == 0 || shown == MAX_BARS {
                    continue;
                }
                shown += 1;
            }
            let bar = transfer.bar.get_or_insert_with(|| {
                let bar = new_bar(transfer.size, at, self.verb, width);
                bar.set_message(transfer.name.clone());
                match &self.total {
                    Some(total) => self.bars.insert_before(total, bar),
                    None => self.bars.add(bar),
                }
            });
            bar.set_position(at);
        }
        let Some((count, bytes)) = self.expected.filter(|(count, _)| *count > 1) else {
            return;
        };
        if self.total.is_none() && shown == 0 {
            return;
        }
        let total = self.total.get_or_insert_with(|| {
            let bar = new_bar(bytes, passed.min(bytes), "Total", width);
            self.bars.add(bar)
        });
        total.set_message(format!("{complete} of {count} files"));
        total.set_position(passed.min(bytes));
    }

    fn finish(&mut self, key: &str, size: u64) {
        self.finished.0 += 1;
        self.finished.1 += size;
        let range = (key.to_owned(), 0)..=(key.to_owned(), usize::MAX);
        let first = self.running.range(range).next();
        let first = first.map(|(id, _)| id.clone());
        if let Some(id) = first
            && let Some(bar) = self.running.remove(&id).and_then(|transfer| transfer.bar)
        {
            bar.finish_and_clear();
            self.bars.remove(&bar);
        }
    }

    fn clear(&mut self) {
        let transfers = std::mem::take(&mut self.running).into_values();
        let bars = transfers.filter_map(|transfer| transfer.bar);
        for bar in bars.chain(self.total.take()) {
            bar.finish_and_clear();
            self.bars.remove(&bar);
        }
    }
}

/// Creates a hidden bar for a terminal with this number of columns. The transfer rate is measured from this moment.
fn new_bar(size: u64, at: u64, verb: &'static str, width: u16) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(size), ProgressDrawTarget::hidden());
    let name_width = (width.saturating_sub(FIXED_COLUMNS) * 2 / 5).clamp(12, 40);
    let template = format!(
        "{{prefix:>12.bold.cyan}} {{msg:{name_width}!}} [{{wide_bar}}] {{percent:>3}}% {{amount:>15}} {{binary_bytes_per_sec:>12}} {{eta:>3}}"
    );
    let style = ProgressStyle::with_template(&template).expect("the template is well-formed");
    let style = style.with_key("amount", |state: &ProgressState, f: &mut dyn fmt::Write| {
        let (part, whole) = (state.pos(), state.len().unwrap_or_default());
        let separator = "/";
        let amount = Portion {
            part,
            whole,
            separator,
        };
        // The buffer of a line accepts any text.
        let _ = write!(f, "{amount}");
    });
    bar.set_style(style.progress_chars("=> "));
    bar.set_prefix(verb);
    bar.set_position(at);
    bar.reset_eta();
    bar
}

/// Terminal with an optional fixed width. If it is set, it overrides the detected width.
///
/// The drawing library fills each line with spaces, so that the next line starts by wrapping at the right edge. This
/// type starts a new line instead, because the lines may be narrower than the terminal.
#[derive(Debug, Clone)]
struct FixedWidthTerm {
    term: Term,
    width: Option<u16>,
    /// Whether a line was written, so that the next line needs a line break.
    is_line_complete: Arc<AtomicBool>,
}

impl TermLike for FixedWidthTerm {
    fn width(&self) -> u16 {
        let detected = || TermLike::width(&self.term).saturating_sub(RIGHT_MARGIN);
        self.width.unwrap_or_else(detected)
    }

    fn height(&self) -> u16 {
        TermLike::height(&self.term)
    }

    fn move_cursor_up(&self, n: usize) -> std::io::Result<()> {
        self.is_line_complete.store(false, Ordering::Relaxed);
        self.term.move_cursor_up(n)
    }

    fn move_cursor_down(&self, n: usize) -> std::io::Result<()> {
        self.term.move_cursor_down(n)
    }

    fn move_cursor_right(&self, n: usize) -> std::io::Result<()> {
        self.term.move_cursor_right(n)
    }

    fn move_cursor_left(&self, n: usize) -> std::io::Result<()> {
        self.term.move_cursor_left(n)
    }

    fn write_line(&self, line: &str) -> std::io::Result<()> {
        self.term.write_line(line)
    }

    fn write_str(&self, text: &str) -> std::io::Result<()> {
        if text.chars().all(|character| character == ' ') {
            self.is_line_complete.store(true, Ordering::Relaxed);
            return Ok(());
        }
        if self.is_line_complete.swap(false, Ordering::Relaxed) {
            self.term.write_str("\n")?;
        }
        self.term.write_str(text)
    }

    fn clear_line(&self) -> std::io::Result<()> {
        self.term.clear_line()
    }

    fn flush(&self) -> std::io::Result<()> {
        self.term.flush()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;
    use oci_registry::{Blob, MediaType};

    use super::*;

    /// Terminal that records the drawn lines.
    #[derive(Debug, Clone, Default)]
    struct RecordingTerm(Arc<Mutex<Vec<String>>>);

    impl RecordingTerm {
        fn record(&self, text: &str) {
            let text = console::strip_ansi_codes(text).trim_end().to_owned();
            if !text.trim().is_empty() {
                self.0.lock().expect("no panic").push(text);
            }
        }
    }

    impl TermLike for RecordingTerm {
        fn width(&self) -> u16 {
            100
        }
        fn move_cursor_up(&self, _: usize) -> std::io::Result<()> {
            Ok(())
        }
        fn move_cursor_down(&self, _: usize) -> std::io::Result<()> {
            Ok(())
        }
        fn move_cursor_right(&self, _: usize) -> std::io::Result<()> {
            Ok(())
        }
        fn move_cursor_left(&self, _: usize) -> std::io::Result<()> {
            Ok(())
        }
        fn write_line(&self, line: &str) -> std::io::Result<()> {
            self.record(line);
            Ok(())
        }
        fn write_str(&self, text: &str) -> std::io::Result<()> {
            self.record(text);
            Ok(())
        }
        fn clear_line(&self) -> std::io::Result<()> {
            Ok(())
        }
        fn flush(&self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn bars_show_transferred_bytes_and_total() {
        let (term, home) = (
            RecordingTerm::default(),
            tempfile::tempdir().expect("a directory"),
        );
        let progress = ProgressBars::with_terminal(term.clone());
        let batch = progress.start_batch("Pulling", Some((2, 4 << 20)));
        if let Some(updater) = &batch.updater {
            updater.abort();
        }
        let path = home.path().join("widgets");
        std::fs::write(&path, vec![0; 2 << 20]).expect("a file");
        let meter = Meter::default();
        let blob = Blob::from_file(MediaType::OCTET_STREAM, &path).await;
        let blob = blob.expect("a file").metered(&meter);
        batch.start("a", "widgets\u{1b}[31m", 2 << 20, &meter);
        batch.start("b", "gadgets", 2 << 20, &Meter::default());
        lock(&batch.transfers).update();
        let drawn = || term.0.lock().expect("no panic").join("\n");
        assert_eq!(drawn(), "", "a transfer without progress has no bar");
        let mut bytes = blob.open().await.expect("a file");
        let first = bytes.next().await.expect("content").expect("a file").len();
        assert_eq!(first, 256 << 10);
        lock(&batch.transfers).update();
        let text = drawn();
        assert!(text.contains("Pulling widgets"), "{text}");
        assert!(text.contains("]  12%     0.3/2.0 MiB "), "{text}");
        let bar = text
            .rsplit('[')
            .next()
            .and_then(|rest| rest.split(']').next());
        let bar = bar.expect("a bar");
        assert_eq!(bar.chars().count(), 29, "{text}");
        assert!(
            !text.contains('\u{1b}') && !text.contains("gadgets"),
            "{text}"
        );
        while bytes.next().await.is_some() {}
        lock(&batch.transfers).update();
        assert!(drawn().contains("1 of 2 files"), "{}", drawn());
        batch.finish("a", 2 << 20);
        lock(&batch.transfers).update();
        let total = lock(&batch.transfers)
            .total
            .clone()
            .expect("a bar for two transfers");
        assert_eq!((total.position(), total.length()), (2 << 20, Some(4 << 20)));
        assert_eq!(total.message(), "1 of 2 files");
    }

    #[test]
    fn bars_are_hidden_unless_terminal_or_variable_enables_them() {
        let shown = |variables: &[(&str, &str)], is_quiet| {
            let variables = variables
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            let environment = Environment::new(variables, None, "/".into());
            !ProgressBars::new(&environment, is_quiet).bars.is_hidden()
        };
        let always = ("CARGO_TERM_PROGRESS_WHEN", "always");
        assert!(shown(&[always], false));
        assert!(!shown(&[always], true));
        assert!(!shown(&[("CARGO_TERM_PROGRESS_WHEN", "never")], false));
        assert!(!shown(&[("TERM", "dumb")], false));
        assert!(!shown(&[("CI", "true")], false));
    }
}
