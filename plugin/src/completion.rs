//! Names for the Tab key: registries, repositories, tags; and the targets and platforms of an index.
//!
//! Owns what is offered for a half-typed name, and the lists that it is taken from. An answer is due soon, whatever the
//! network does: what is not there within [`BUDGET`], or when another call of the shell waits, goes on being fetched, and
//! is there the next time. A registry that was waited for in vain is not waited for again, and one that never answered is
//! left alone for a while. Whatever goes wrong offers nothing.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use nu_plugin::{DynamicCompletionCall, EngineInterface};
use nu_protocol::ast::{Expr, Expression};
use nu_protocol::engine::ArgType;
use nu_protocol::{DynamicSuggestion, Span};
use oci_package::{annotation, platform};
use oci_registry::{
    CredentialChain, CredentialProvider, Descriptor, Environment, LocationText, RegistryName,
};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::OciPlugin;
use crate::connection::Surroundings;
use crate::input::Subject;
use crate::lookup::{Found, Lookup};
use crate::settings::Settings;

/// How long the shell is kept waiting for a list that has just been asked for, and for each list only once: as long as a
/// registry far away takes for a login and a page.
const BUDGET: Duration = Duration::from_millis(500);

/// How long a list may take to arrive when nobody waits for it any more.
const LIMIT: Duration = Duration::from_secs(10);

/// How long a list is offered before it is asked for again; also an empty one, of a registry that has none or is silent.
const FRESH: Duration = Duration::from_secs(30);

/// How many names are taken of a list.
const MOST: usize = 2000;

/// What an argument names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A registry.
    Registry,
    /// A repository.
    Repository,
    /// A manifest, by its tag.
    Manifest,
}

/// The method of a command that offers names for its arguments: of which kind the one in a position is.
macro_rules! completes {
    ($kind:expr) => {
        #[expect(deprecated, reason = "how the trait says that it is new")]
        fn get_dynamic_completion(
            &self,
            plugin: &$crate::OciPlugin,
            engine: &nu_plugin::EngineInterface,
            call: nu_plugin::DynamicCompletionCall,
            argument: nu_protocol::engine::ArgType<'_>,
            _: nu_protocol::engine::ExperimentalMarker,
        ) -> Option<Vec<nu_protocol::DynamicSuggestion>> {
            $crate::completion::complete(plugin, engine, &call, &argument, $kind)
        }
    };
}
pub(crate) use completes;

/// What is offered for an argument; `None` leaves it to the shell.
pub(crate) fn complete(
    plugin: &OciPlugin,
    engine: &EngineInterface,
    call: &DynamicCompletionCall,
    argument: &ArgType<'_>,
    kind: impl Fn(usize) -> Option<Kind>,
) -> Option<Vec<DynamicSuggestion>> {
    // First of all, and of every command's: they are counted.
    let gives_way = plugin.calls.begin_completion();
    let position = |position: usize| call.call.positional_iter().nth(position);
    let offer = match argument {
        ArgType::Positional(at) => {
            let typed = position(*at).map_or(Some(String::new()), |typed| text(typed, call.strip));
            Offer::of_typed(&typed?, kind(*at)?)?
        }
        ArgType::Flag(flag) => {
            let manifest = text(position(0)?, false)?.parse().ok()?;
            match flag.as_ref() {
                "target" => Offer::whole(List::Targets(manifest)),
                "platform" => Offer::whole(List::Platforms(manifest)),
                _ => return None,
            }
        }
    };
    let names = names(plugin, engine, &offer.list, gives_way).unwrap_or_default();
    let names = names.into_iter().filter(|name| is_plain(name));
    let suggestions = names.map(|name| DynamicSuggestion {
        value: format!("{}{name}{}", offer.before, offer.after),
        append_whitespace: offer.is_whole,
        ..DynamicSuggestion::default()
    });
    Some(suggestions.collect())
}

/// Whether a name means nothing but itself on a command line: the shell takes what is offered as if it were typed, and what
/// an index says of itself can be anything.
fn is_plain(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/:+".contains(&byte);
    name.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '_')
        && name.bytes().all(is_plain)
}

/// What was typed, where it is a plain text.
fn text(typed: &Expression, has_placeholder: bool) -> Option<String> {
    let (Expr::String(text)
    | Expr::RawString(text)
    | Expr::GlobPattern(text, _)
    | Expr::Filepath(text, _)
    | Expr::Directory(text, _)) = &typed.expr
    else {
        return None;
    };
    let mut text = text.clone();
    if has_placeholder {
        text.pop();
    }
    Some(text)
}

/// A list, and how its names stand in the command.
#[derive(Debug, PartialEq)]
struct Offer {
    list: List,
    before: String,
    after: &'static str,
    /// Whether nothing is to follow but another argument.
    is_whole: bool,
}

impl Offer {
    fn whole(list: List) -> Self {
        Self {
            list,
            before: String::new(),
            after: "",
            is_whole: true,
        }
    }

    /// What continues an argument of which this much is typed: a name, or a quote and a name.
    fn of_typed(typed: &str, kind: Kind) -> Option<Self> {
        let quote = ["\"", "'", "`"]
            .into_iter()
            .find(|quote| typed.starts_with(quote));
        let Some(quote) = quote else {
            return Self::of_name(typed, kind);
        };
        let mut offer = Self::of_name(typed.trim_matches(['"', '\'', '`']), kind)?;
        offer.before.insert_str(0, quote);
        if offer.is_whole {
            offer.after = quote;
        }
        Some(offer)
    }

    /// What continues a name of which this much is typed.
    fn of_name(typed: &str, kind: Kind) -> Option<Self> {
        let is_registry = kind == Kind::Registry;
        // The tag begins at a colon after which no path goes on; the colon of a scheme or port has one behind it.
        let tagged = typed.rsplit_once(':');
        let tagged = tagged.filter(|(place, tag)| {
            !tag.contains('/') && (place.contains('/') || place.contains(':'))
        });
        if let Some((place, _)) = tagged {
            return (kind == Kind::Manifest).then_some(Self {
                list: List::Tags(place.parse().ok()?),
                before: format!("{place}:"),
                after: "",
                is_whole: true,
            });
        }
        if ["oci:", "oci-archive:", "docker-archive:"]
            .iter()
            .any(|scheme| typed.starts_with(scheme))
        {
            return None;
        }
        match typed.split_once('/') {
            None => Some(Self {
                list: List::Registries,
                before: String::new(),
                after: if is_registry { "" } else { "/" },
                is_whole: is_registry,
            }),
            Some(_) if is_registry => None,
            Some((registry, _)) => Some(Self {
                list: List::Repositories(registry.parse().ok()?),
                before: format!("{registry}/"),
                after: "",
                is_whole: kind == Kind::Repository,
            }),
        }
    }
}

/// A list of names.
#[derive(Debug, Clone, PartialEq)]
enum List {
    Registries,
    Repositories(RegistryName),
    Tags(LocationText),
    Targets(LocationText),
    Platforms(LocationText),
}

impl List {
    /// What this list is kept under.
    fn key(&self) -> String {
        format!("{self:?}")
    }

    /// The registry that is asked for it, where one is.
    fn registry(&self) -> Option<&RegistryName> {
        match self {
            Self::Registries => None,
            Self::Repositories(registry) => Some(registry),
            Self::Tags(location) | Self::Targets(location) | Self::Platforms(location) => {
                location.registry()
            }
        }
    }

    /// The names as they come; nothing when anything is amiss.
    async fn fetch(self, lookup: Lookup, environment: Environment) -> Option<Names> {
        Some(match self {
            Self::Registries => {
                let chain = CredentialChain::new(&environment, []);
                let names = chain.registries().await.into_iter();
                stream::iter(names.map(|name| Ok(name.to_string()))).boxed()
            }
            Self::Repositories(registry) => {
                let names = lookup.client().registry(&registry).ok()?.catalog();
                names.map_ok(|name| name.to_string()).boxed()
            }
            Self::Tags(location) => {
                let asked = lookup.locate(unwritten(location)).await.ok()?;
                let place = lookup.place(&asked).await.ok()?;
                let tags = place.content().tags();
                tags.map_ok(|tag| tag.to_string()).boxed()
            }
            Self::Targets(location) => {
                let asked = lookup.locate(unwritten(location)).await.ok()?;
                let found = lookup.find(&asked).await.ok()?;
                of_entries(&found, |entry| {
                    entry.annotation(annotation::TARGET).map(str::to_owned)
                })
            }
            Self::Platforms(location) => {
                let asked = lookup.locate(unwritten(location)).await.ok()?;
                let found = lookup.find(&asked).await.ok()?;
                of_entries(&found, |entry| {
                    let platform = entry.platform.as_ref();
                    let platform = platform.filter(|platform| platform::is_known(platform));
                    platform.map(ToString::to_string)
                })
            }
        })
    }
}

/// Something to be looked up that stands nowhere: whatever goes wrong is not reported.
fn unwritten(name: LocationText) -> Subject<LocationText> {
    let span = Span::unknown();
    Subject { name, span }
}

/// What an index says of its entries, each once.
fn of_entries(found: &Found, name: impl Fn(&Descriptor) -> Option<String>) -> Names {
    let index = found.manifest.as_index();
    let entries = index.map_or(&[][..], |index| &index.manifests).iter();
    let mut names: Vec<_> = entries.filter_map(name).collect();
    names.sort();
    names.dedup();
    stream::iter(names.into_iter().map(Ok)).boxed()
}

/// Names on their way.
type Names = BoxStream<'static, oci_registry::Result<String>>;

/// The lists that were asked for, as far as they have come.
#[derive(Default)]
pub(crate) struct Completions(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    /// Whose lists these are.
    surroundings: Option<Surroundings>,
    lists: HashMap<String, Coming>,
}

/// A list on its way, or one that has come.
#[derive(Clone)]
struct Coming {
    registry: Option<RegistryName>,
    asked: Instant,
    /// Until when it is waited for.
    patience: Instant,
    progress: watch::Receiver<Progress>,
}

impl Coming {
    /// Whether nothing more of it will come.
    fn is_over(&self) -> bool {
        self.progress.borrow().is_over
    }

    /// Whether it is still on its way when it should have been here.
    fn is_late(&self) -> bool {
        self.asked.elapsed() >= BUDGET && !self.is_over()
    }

    /// Whether nothing at all came of it, and that not long ago.
    fn was_given_up(&self) -> bool {
        self.asked.elapsed() < FRESH && self.progress.borrow().is_given_up
    }
}

#[derive(Debug, Clone, Default)]
struct Progress {
    names: Vec<String>,
    is_over: bool,
    /// Whether it is over because there was no answer.
    is_given_up: bool,
}

impl fmt::Debug for Completions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Completions").finish_non_exhaustive()
    }
}

/// The names of a list, or as many as have come in time; none when anything is amiss.
fn names(
    plugin: &OciPlugin,
    engine: &EngineInterface,
    list: &List,
    gives_way: impl Future<Output = ()>,
) -> Option<Vec<String>> {
    let settings = Settings::of_configuration(engine).ok()?;
    let surroundings = Surroundings::read(engine, &settings).ok()?;
    let environment = surroundings.environment();
    let client = plugin.connections.client(&surroundings);
    let lookup = Lookup::new(client, surroundings.current_dir());
    let runtime = plugin.runtime.start().ok()?;
    let _inside = runtime.enter();
    let coming = plugin.completions.coming(surroundings, list, || {
        list.clone().fetch(lookup, environment)
    });
    let mut progress = coming.progress;
    runtime.block_on(async {
        let over = async {
            // Nobody gives up a list without a word.
            let _ = progress.wait_for(|progress| progress.is_over).await;
        };
        // Late is as good as never: what has come by then is taken.
        tokio::select! {
            () = over => {}
            () = tokio::time::sleep_until(coming.patience) => {}
            () = gives_way => {}
        }
    });
    let names = progress.borrow().names.clone();
    Some(names)
}

impl Completions {
    /// A list that is kept, or one that is asked for now.
    fn coming<F>(
        &self,
        surroundings: Surroundings,
        list: &List,
        fetch: impl FnOnce() -> F,
    ) -> Coming
    where
        F: Future<Output = Option<Names>> + Send + 'static,
    {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.surroundings.as_ref() != Some(&surroundings) {
            *kept = Kept {
                surroundings: Some(surroundings),
                lists: HashMap::new(),
            };
        }
        let key = list.key();
        let before = kept.lists.get(&key);
        if let Some(coming) = before.filter(|coming| coming.asked.elapsed() < FRESH) {
            return coming.clone();
        }
        // Until the new one is there, the old one does.
        let old = before.map(|coming| coming.progress.borrow().names.clone());
        let registry = list.registry();
        let others = kept.lists.values();
        let others =
            others.filter(|other| registry.is_some() && other.registry.as_ref() == registry);
        let (is_late, is_silent) = others.fold((false, false), |(late, silent), other| {
            (late || other.is_late(), silent || other.was_given_up())
        });
        let (sender, progress) = watch::channel(Progress {
            names: old.unwrap_or_default(),
            is_over: is_silent,
            is_given_up: false,
        });
        let asked = Instant::now();
        let coming = Coming {
            registry: registry.cloned(),
            asked,
            patience: if is_late { asked } else { asked + BUDGET },
            progress,
        };
        if !is_silent {
            tokio::spawn(fill(fetch(), sender));
            kept.lists.insert(key, coming.clone());
        }
        coming
    }
}

/// Passes on what comes of a list, in the end all of it.
async fn fill(fetch: impl Future<Output = Option<Names>>, sender: watch::Sender<Progress>) {
    let mut names = Vec::new();
    let work = async {
        let Some(coming) = fetch.await else { return };
        let mut coming = coming.take(MOST);
        while let Some(Ok(name)) = coming.next().await {
            names.push(name);
            sender.send_modify(|progress| {
                // Whatever is kept from before is more than the beginning of what is new.
                if progress.names.len() < names.len() {
                    progress.names.clone_from(&names);
                }
            });
        }
    };
    let done = tokio::time::timeout(LIMIT, work).await;
    sender.send_modify(|progress| {
        progress.is_given_up = done.is_err() && names.is_empty();
        if !names.is_empty() {
            progress.names = names;
        }
        progress.is_over = true;
    });
}

#[cfg(test)]
mod tests {
    use futures_util::future::{Ready, ready};

    use super::*;

    fn offer(typed: &str, kind: Kind) -> Option<(List, String, bool)> {
        let offer = Offer::of_typed(typed, kind)?;
        let shape = format!("{}…{}", offer.before, offer.after);
        Some((offer.list, shape, offer.is_whole))
    }

    #[test]
    fn a_name_is_completed_part_by_part() {
        use Kind::{Manifest, Registry, Repository};
        let registries =
            |after: &str, is_whole| Some((List::Registries, format!("…{after}"), is_whole));
        assert_eq!(offer("", Registry), registries("", true));
        assert_eq!(offer("gh", Manifest), registries("/", false));
        assert_eq!(offer("localhost:50", Manifest), registries("/", false));
        assert_eq!(offer("ghcr.io/a", Registry), None);
        let repositories = |is_whole| {
            let list = List::Repositories("ghcr.io".parse().unwrap());
            Some((list, "ghcr.io/…".to_owned(), is_whole))
        };
        assert_eq!(offer("ghcr.io/", Repository), repositories(true));
        assert_eq!(offer("ghcr.io/acme/w", Manifest), repositories(false));
        let tags = |place: &str| {
            let list = List::Tags(place.parse().unwrap());
            Some((list, format!("{place}:…"), true))
        };
        assert_eq!(offer("ghcr.io/acme/w:", Manifest), tags("ghcr.io/acme/w"));
        assert_eq!(offer("a:1/b:1.2", Manifest), tags("a:1/b"));
        assert_eq!(offer("oci:dir:", Manifest), tags("oci:dir"));
        for typed in ["ghcr.io/acme/w:1", "ghcr.io/acme/W:"] {
            assert_eq!(offer(typed, Repository), None, "{typed}");
        }
        assert_eq!(offer("oci:dir/x", Manifest), None);
        let quoted = |typed| offer(typed, Manifest).map(|(_, shape, _)| shape);
        assert_eq!(quoted("'gh").as_deref(), Some("'…/"));
        assert_eq!(quoted("\"a.b/c:").as_deref(), Some("\"a.b/c:…\""));
    }

    /// Names with a pause before each.
    fn slow(pause: Duration, names: &'static [&'static str]) -> Ready<Option<Names>> {
        let names = stream::iter(names).then(move |name| async move {
            tokio::time::sleep(pause).await;
            Ok((*name).to_owned())
        });
        ready(Some(names.boxed()))
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_late_is_there_the_next_time() {
        let completions = Completions::default();
        let (list, nobody) = (List::Registries, Surroundings::default);
        let second = Duration::from_secs(1);
        let first = completions.coming(nobody(), &list, || slow(second, &["a", "b"]));
        assert_eq!(first.patience, first.asked + BUDGET);
        tokio::time::sleep_until(first.patience).await;
        assert!(first.is_late());
        assert!(first.progress.borrow().names.is_empty());
        tokio::time::sleep(3 * second).await;
        let again = completions.coming(nobody(), &list, || slow(second, &["not asked for"]));
        assert_eq!(again.asked, first.asked);
        assert_eq!(again.progress.borrow().names, ["a", "b"]);
        // Later it is asked for again, and the old list does until the new one is there.
        tokio::time::sleep(FRESH).await;
        let later = completions.coming(nobody(), &list, || slow(second, &["c", "d", "e"]));
        assert_ne!(later.asked, first.asked);
        assert_eq!(later.progress.borrow().names, ["a", "b"]);
        tokio::time::sleep(4 * second).await;
        assert_eq!(later.progress.borrow().names, ["c", "d", "e"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_that_never_comes_is_given_up() {
        let completions = Completions::default();
        let hour = Duration::from_hours(1);
        let coming = completions.coming(Surroundings::default(), &List::Registries, || {
            slow(hour, &["never"])
        });
        tokio::time::sleep(LIMIT * 2).await;
        assert!(coming.is_over() && coming.progress.borrow().names.is_empty());
    }

    #[test]
    fn what_means_something_to_the_shell_is_not_offered() {
        for name in [
            "x86_64-unknown-linux-gnu",
            "linux/arm/v7",
            "a.b:5000",
            "_1.2+x",
        ] {
            assert!(is_plain(name), "{name}");
        }
        for name in [
            "",
            "-x",
            "--help",
            "a b",
            "a;b",
            "t(^touch x)",
            "$x",
            "`a`",
            "'a'",
            "\"a\"",
            "a|b",
            "a>b",
            "#a",
            "[a]",
            "{a}",
            "~",
            "*",
            "é",
            "a\u{1b}]0;x",
            "a\nb",
        ] {
            assert!(!is_plain(name), "{name:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_registry_that_hangs_is_waited_for_once_and_then_left_alone() {
        let completions = Completions::default();
        let hour = Duration::from_hours(1);
        let ask = |list: &str, pause| {
            let list = match list.parse() {
                Ok(registry) => List::Repositories(registry),
                Err(_) => List::Tags(list.parse().unwrap()),
            };
            completions.coming(Surroundings::default(), &list, || slow(pause, &["name"]))
        };
        let first = ask("a.b", hour);
        // Others of it are, as long as it is not known to be late.
        let beside = ask("a.b/beside", hour);
        assert_eq!(beside.patience, beside.asked + BUDGET);
        tokio::time::sleep(BUDGET).await;
        let late = ask("a.b/late", hour);
        assert_eq!(late.patience, late.asked);
        let elsewhere = ask("c.d/late", hour);
        assert_eq!(elsewhere.patience, elsewhere.asked + BUDGET);
        tokio::time::sleep(LIMIT).await;
        assert!(first.was_given_up());
        let silent = ask("a.b/more", Duration::ZERO);
        assert!(silent.is_over());
        // After a while it may be back.
        tokio::time::sleep(FRESH).await;
        let again = ask("a.b/more", Duration::ZERO);
        assert!(!again.is_over());
        tokio::time::sleep(BUDGET).await;
        assert_eq!(again.progress.borrow().names, ["name"]);
    }
}
