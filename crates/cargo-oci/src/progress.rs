//! Bars on a terminal: how far each transfer has come, how fast it goes, and how long it will take.
//!
//! A bar looks at a [`Meter`] ten times a second; whoever moves the bytes knows nothing of it. What is done before the
//! first look gets no bar, so that quick things do not flicker. Whether there are bars at all is decided as cargo decides:
//! on a terminal that can move its cursor and outside of CI, unless `CARGO_TERM_PROGRESS_WHEN` says otherwise.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use console::Term;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike};
use oci_registry::{Environment, Meter, escape};
use tokio::task::JoinHandle;

use crate::stdio;

/// How often bars look at their meters.
const LOOK: Duration = Duration::from_millis(100);

/// How often a second the terminal is drawn at most.
const DRAWS: u8 = 20;

/// Most bars at one time. Many small files can have arrived before the first gets its final name.
const MAX_BARS: usize = 32;

/// How wide bars are where there is no terminal to ask and nobody says.
const WIDTH: u16 = 80;

/// A line: what is done with what, how much of how much, how fast, how long still.
const LINE: &str = "{prefix:>12.bold.cyan} {wide_msg} {binary_bytes:>10}/{binary_total_bytes} {binary_bytes_per_sec:>12} {eta:>3} [{bar:10}]";

/// All bars of this process.
#[derive(Debug, Clone)]
pub(crate) struct Progress {
    bars: MultiProgress,
}

impl Progress {
    /// Bars on stderr, if there are to be any.
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
            return Self::hidden();
        }
        let width = environment.var("CARGO_TERM_PROGRESS_WIDTH");
        let width = width.and_then(|width| width.parse().ok());
        let width = width.or_else(|| (!term.is_term()).then_some(WIDTH));
        Self::on(Sized { term, width })
    }

    fn on(terminal: impl TermLike + 'static) -> Self {
        let target = ProgressDrawTarget::term_like_with_hz(Box::new(terminal), DRAWS);
        Self {
            bars: MultiProgress::with_draw_target(target),
        }
    }

    fn hidden() -> Self {
        Self {
            bars: MultiProgress::with_draw_target(ProgressDrawTarget::hidden()),
        }
    }

    /// Does something to the terminal while no bar is in the way.
    pub(crate) fn suspend<T>(&self, work: impl FnOnce() -> T) -> T {
        self.bars.suspend(work)
    }

    /// Transfers that belong together, of which nothing has begun. Their bars go when this is dropped.
    ///
    /// `verb` is what is being done, in the form `Pulling`; what is expected is the number of transfers and the sum of
    /// their bytes, as far as it is known before.
    pub(crate) fn batch(&self, verb: &'static str, expected: Option<(usize, u64)>) -> Batch {
        let transfers = Arc::new(Mutex::new(Transfers {
            bars: self.bars.clone(),
            verb,
            moving: BTreeMap::new(),
            begun: 0,
            ended: (0, 0),
            expected,
            total: None,
        }));
        let looker = (!self.bars.is_hidden()).then(|| {
            let transfers = Arc::clone(&transfers);
            tokio::spawn(async move {
                let mut looks = tokio::time::interval(LOOK);
                loop {
                    looks.tick().await;
                    lock(&transfers).look();
                }
            })
        });
        Batch { transfers, looker }
    }
}

/// Transfers that belong together.
#[derive(Debug)]
pub(crate) struct Batch {
    transfers: Arc<Mutex<Transfers>>,
    looker: Option<JoinHandle<()>>,
}

impl Batch {
    /// A transfer has begun. The key tells it from the others, the name is for people.
    pub(crate) fn start(&self, key: &str, name: &str, size: u64, meter: &Meter) {
        lock(&self.transfers).start(
            key,
            Moving {
                name: stdio::text(&escape(name, 200)).into_owned(),
                size,
                meter: meter.clone(),
                bar: None,
            },
        );
    }

    /// The transfer of this key has ended, however it did. One that was not begun here ends as well.
    pub(crate) fn finish(&self, key: &str, size: u64) {
        lock(&self.transfers).finish(key, size);
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        if let Some(looker) = &self.looker {
            looker.abort();
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
    verb: &'static str,
    /// By key and by the order in which they began: several may have one key.
    moving: BTreeMap<(String, usize), Moving>,
    /// How many have begun.
    begun: usize,
    /// How many have ended, and their bytes.
    ended: (usize, u64),
    expected: Option<(usize, u64)>,
    /// The bar of all together, below the others.
    total: Option<ProgressBar>,
}

#[derive(Debug)]
struct Moving {
    name: String,
    size: u64,
    meter: Meter,
    bar: Option<ProgressBar>,
}

impl Transfers {
    fn start(&mut self, key: &str, moving: Moving) {
        self.moving.insert((key.to_owned(), self.begun), moving);
        self.begun += 1;
    }

    /// Draws every bar with the value of its meter.
    fn look(&mut self) {
        // A file whose last byte has arrived counts as complete, though it may not have its final name yet.
        let (mut whole, mut passed) = self.ended;
        let has_bar = |moving: &&Moving| moving.bar.is_some();
        let mut shown = self.moving.values().filter(has_bar).count();
        for moving in self.moving.values_mut() {
            let at = moving.meter.passed().min(moving.size);
            passed += at;
            whole += usize::from(at == moving.size && at > 0);
            if moving.bar.is_none() {
                if at == 0 || shown == MAX_BARS {
                    continue;
                }
                shown += 1;
            }
            let bar = moving.bar.get_or_insert_with(|| {
                let bar = dressed(moving.size, at, self.verb);
                bar.set_message(moving.name.clone());
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
        let total = self
            .total
            .get_or_insert_with(|| self.bars.add(dressed(bytes, passed.min(bytes), "Total")));
        total.set_message(format!("{whole} of {count} files"));
        total.set_position(passed.min(bytes));
    }

    fn finish(&mut self, key: &str, size: u64) {
        self.ended.0 += 1;
        self.ended.1 += size;
        let range = (key.to_owned(), 0)..=(key.to_owned(), usize::MAX);
        let first = self.moving.range(range).next();
        let first = first.map(|(id, _)| id.clone());
        if let Some(id) = first
            && let Some(bar) = self.moving.remove(&id).and_then(|moving| moving.bar)
        {
            bar.finish_and_clear();
            self.bars.remove(&bar);
        }
    }

    fn clear(&mut self) {
        let moving = std::mem::take(&mut self.moving).into_values();
        let bars = moving.filter_map(|moving| moving.bar);
        for bar in bars.chain(self.total.take()) {
            bar.finish_and_clear();
            self.bars.remove(&bar);
        }
    }
}

/// A bar that is not drawn yet. Its rate counts from here.
fn dressed(size: u64, at: u64, verb: &'static str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(size), ProgressDrawTarget::hidden());
    let style = ProgressStyle::with_template(LINE).expect("the template is well-formed");
    bar.set_style(style.progress_chars("=> "));
    bar.set_prefix(verb);
    bar.set_position(at);
    bar.reset_eta();
    bar
}

/// A terminal that is as wide as somebody says.
#[derive(Debug)]
struct Sized {
    term: Term,
    width: Option<u16>,
}

impl TermLike for Sized {
    fn width(&self) -> u16 {
        self.width.unwrap_or_else(|| TermLike::width(&self.term))
    }

    fn height(&self) -> u16 {
        TermLike::height(&self.term)
    }

    fn move_cursor_up(&self, n: usize) -> std::io::Result<()> {
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

    /// A terminal that remembers the lines which were drawn.
    #[derive(Debug, Clone, Default)]
    struct Paper(Arc<Mutex<Vec<String>>>);

    impl Paper {
        fn put(&self, text: &str) {
            let text = console::strip_ansi_codes(text).trim_end().to_owned();
            if !text.trim().is_empty() {
                self.0.lock().expect("nobody panicked").push(text);
            }
        }
    }

    impl TermLike for Paper {
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
            self.put(line);
            Ok(())
        }
        fn write_str(&self, text: &str) -> std::io::Result<()> {
            self.put(text);
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
    async fn a_bar_follows_its_meter_and_all_of_them_add_up() {
        let (paper, home) = (Paper::default(), tempfile::tempdir().expect("a directory"));
        let progress = Progress::on(paper.clone());
        let batch = progress.batch("Pulling", Some((2, 4 << 20)));
        if let Some(looker) = &batch.looker {
            looker.abort();
        }
        let path = home.path().join("widgets");
        std::fs::write(&path, vec![0; 2 << 20]).expect("a file");
        let meter = Meter::default();
        let blob = Blob::from_file(MediaType::OCTET_STREAM, &path).await;
        let blob = blob.expect("a file").metered(&meter);
        batch.start("a", "widgets\u{1b}[31m", 2 << 20, &meter);
        batch.start("b", "gadgets", 2 << 20, &Meter::default());
        lock(&batch.transfers).look();
        let drawn = || paper.0.lock().expect("nobody panicked").join("\n");
        assert_eq!(drawn(), "", "what has not moved has no bar");
        let mut bytes = blob.open().await.expect("a file");
        let first = bytes.next().await.expect("content").expect("a file").len();
        assert_eq!(first, 256 << 10);
        lock(&batch.transfers).look();
        let text = drawn();
        assert!(text.contains("Pulling widgets"), "{text}");
        assert!(text.contains("256.00 KiB/2.00 MiB"), "{text}");
        assert!(
            !text.contains('\u{1b}') && !text.contains("gadgets"),
            "{text}"
        );
        while bytes.next().await.is_some() {}
        lock(&batch.transfers).look();
        assert!(drawn().contains("1 of 2 files"), "{}", drawn());
        batch.finish("a", 2 << 20);
        lock(&batch.transfers).look();
        let total = lock(&batch.transfers)
            .total
            .clone()
            .expect("two are more than one");
        assert_eq!((total.position(), total.length()), (2 << 20, Some(4 << 20)));
        assert_eq!(total.message(), "1 of 2 files");
    }

    #[test]
    fn bars_are_for_terminals_and_for_those_who_ask() {
        let shown = |variables: &[(&str, &str)], is_quiet| {
            let variables = variables
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            let environment = Environment::new(variables, None, "/".into());
            !Progress::new(&environment, is_quiet).bars.is_hidden()
        };
        let always = ("CARGO_TERM_PROGRESS_WHEN", "always");
        assert!(shown(&[always], false));
        assert!(!shown(&[always], true));
        assert!(!shown(&[("CARGO_TERM_PROGRESS_WHEN", "never")], false));
        assert!(!shown(&[("TERM", "dumb")], false));
        assert!(!shown(&[("CI", "true")], false));
    }
}
