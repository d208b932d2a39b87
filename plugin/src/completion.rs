//! Completion of registries, repositories and tags, and of the targets and platforms of an index.
//!
//! The shell waits for a list for at most [`WAIT_LIMIT`], or until it sends another call. A list that is still
//! incomplete after that time is fetched in the background and is available at the next completion. If a list of a
//! registry exceeded the limit, completion does not wait for other lists of the registry. If a registry recently timed
//! out, completion sends it no requests. An error results in an empty list.

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
use oci_package::{HiddenTag, annotation, platform};
use oci_registry::{
    CredentialChain, CredentialProvider, Descriptor, Environment, LocationText, RegistryName,
};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::OciPlugin;
use crate::connection::ShellContext;
use crate::input::Operand;
use crate::resolver::{OperandResolver, ResolvedManifest};
use crate::settings::ConnectionSettings;

/// Maximum time that the shell waits for a new list. The shell waits once for each list.
///
/// A distant registry needs about this time for authentication and one page.
const WAIT_LIMIT: Duration = Duration::from_millis(500);

/// Time limit for fetching a list in the background.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);

/// Time from a request for a list until the list is fetched again. Also applies to empty lists and to lists that timed
/// out.
const CACHE_LIFETIME: Duration = Duration::from_secs(30);

/// Maximum number of names that are read from a list.
const MAX_NAMES: usize = 2000;

/// Kind of name that an argument expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ArgumentKind {
    /// A registry, `HOST[:PORT]`.
    Registry,
    /// A repository, `REGISTRY/REPOSITORY`.
    Repository,
    /// A manifest, `REGISTRY/REPOSITORY:TAG`.
    Manifest,
}

/// Implements the completion method of a command. `$kind` maps the position of an argument to the kind of name that the
/// argument expects.
macro_rules! completes {
    ($kind:expr) => {
        #[expect(
            deprecated,
            reason = "nu_plugin marks the experimental method as deprecated"
        )]
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

/// Returns the suggestions for an argument, or `None` if the shell should use its own completion.
pub(crate) fn complete(
    plugin: &OciPlugin,
    engine: &EngineInterface,
    call: &DynamicCompletionCall,
    argument: &ArgType<'_>,
    kind: impl Fn(usize) -> Option<ArgumentKind>,
) -> Option<Vec<DynamicSuggestion>> {
    // Every completion must be counted, so this line comes before any early return.
    let later_call = plugin.calls.begin_completion();
    let position = |position: usize| call.call.positional_iter().nth(position);
    let context = match argument {
        ArgType::Positional(at) => {
            let typed =
                position(*at).map_or(Some(String::new()), |typed| typed_text(typed, call.strip));
            CompletionContext::from_argument(&typed?, kind(*at)?)?
        }
        ArgType::Flag(flag) => {
            let manifest = typed_text(position(0)?, false)?.parse().ok()?;
            match flag.as_ref() {
                "target" => CompletionContext::for_name(NameList::Targets(manifest)),
                "platform" => CompletionContext::for_name(NameList::Platforms(manifest)),
                _ => return None,
            }
        }
    };
    let names = list_names(plugin, engine, &context.list, later_call).unwrap_or_default();
    let is_offered = |name: &String| match &context.list {
        NameList::Tags(_) => name
            .parse()
            .is_ok_and(|tag| HiddenTag::is_offered(&tag, &context.typed_tag)),
        _ => true,
    };
    let names = names.into_iter().filter(|name| is_plain(name));
    let names = names.filter(is_offered);
    let suggestions = names.map(|name| DynamicSuggestion {
        value: format!("{}{name}{}", context.prefix, context.suffix),
        append_whitespace: context.completes_argument,
        ..DynamicSuggestion::default()
    });
    Some(suggestions.collect())
}

/// Whether a name has no special meaning on a command line.
///
/// The shell inserts a suggestion as if the user had typed it, and the annotations of an index may contain any text.
fn is_plain(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/:+".contains(&byte);
    name.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '_')
        && name.bytes().all(is_plain)
}

/// Returns the typed text if the expression is a string or a path.
fn typed_text(expression: &Expression, has_placeholder: bool) -> Option<String> {
    let (Expr::String(text)
    | Expr::RawString(text)
    | Expr::GlobPattern(text, _)
    | Expr::Filepath(text, _)
    | Expr::Directory(text, _)) = &expression.expr
    else {
        return None;
    };
    let mut text = text.clone();
    if has_placeholder {
        text.pop();
    }
    Some(text)
}

/// List of names that complete an argument, and the text before and after each name.
#[derive(Debug, PartialEq)]
struct CompletionContext {
    list: NameList,
    prefix: String,
    suffix: &'static str,
    /// Typed part of a tag, which determines whether hidden tags are offered.
    typed_tag: String,
    /// Whether the argument is complete after the name, so that a space may follow.
    completes_argument: bool,
}

impl CompletionContext {
    fn for_name(list: NameList) -> Self {
        Self {
            list,
            prefix: String::new(),
            suffix: "",
            typed_tag: String::new(),
            completes_argument: true,
        }
    }

    /// Returns the list and the surrounding text for a partially typed argument, which may start with a quote.
    fn from_argument(typed: &str, kind: ArgumentKind) -> Option<Self> {
        let quote = ["\"", "'", "`"]
            .into_iter()
            .find(|quote| typed.starts_with(quote));
        let Some(quote) = quote else {
            return Self::from_name(typed, kind);
        };
        let mut context = Self::from_name(typed.trim_matches(['"', '\'', '`']), kind)?;
        context.prefix.insert_str(0, quote);
        if context.completes_argument {
            context.suffix = quote;
        }
        Some(context)
    }

    /// Returns the list and the surrounding text for a partially typed name.
    fn from_name(typed: &str, kind: ArgumentKind) -> Option<Self> {
        let is_registry = kind == ArgumentKind::Registry;
        // A tag follows the last colon. If `/` follows the colon, or if neither `/` nor `:` precedes it, the colon
        // belongs to a port or scheme instead.
        let tagged = typed.rsplit_once(':');
        let tagged = tagged.filter(|(repository, tag)| {
            !tag.contains('/') && (repository.contains('/') || repository.contains(':'))
        });
        if let Some((repository, tag)) = tagged {
            return (kind == ArgumentKind::Manifest).then_some(Self {
                list: NameList::Tags(repository.parse().ok()?),
                prefix: format!("{repository}:"),
                suffix: "",
                typed_tag: tag.to_owned(),
                completes_argument: true,
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
                list: NameList::Registries,
                prefix: String::new(),
                suffix: if is_registry { "" } else { "/" },
                typed_tag: String::new(),
                completes_argument: is_registry,
            }),
            Some(_) if is_registry => None,
            Some((registry, _)) => Some(Self {
                list: NameList::Repositories(registry.parse().ok()?),
                prefix: format!("{registry}/"),
                suffix: "",
                typed_tag: String::new(),
                completes_argument: kind == ArgumentKind::Repository,
            }),
        }
    }
}

/// List of names for completion.
#[derive(Debug, Clone, PartialEq)]
enum NameList {
    Registries,
    Repositories(RegistryName),
    Tags(LocationText),
    Targets(LocationText),
    Platforms(LocationText),
}

impl NameList {
    /// Returns the cache key of the list.
    fn key(&self) -> String {
        format!("{self:?}")
    }

    /// Returns the registry that provides the list, or `None` if no registry provides it.
    fn registry(&self) -> Option<&RegistryName> {
        match self {
            Self::Registries => None,
            Self::Repositories(registry) => Some(registry),
            Self::Tags(location) | Self::Targets(location) | Self::Platforms(location) => {
                location.registry()
            }
        }
    }

    /// Returns a stream of the names, or `None` if an error occurs before the stream starts.
    async fn fetch(
        self,
        resolver: OperandResolver,
        environment: Environment,
    ) -> Option<NameStream> {
        Some(match self {
            Self::Registries => {
                let chain = CredentialChain::new(&environment, []);
                let names = chain.registries().await.into_iter();
                stream::iter(names.map(|name| Ok(name.to_string()))).boxed()
            }
            Self::Repositories(registry) => {
                let names = resolver.client().registry(&registry).ok()?.catalog();
                names.map_ok(|name| name.to_string()).boxed()
            }
            Self::Tags(location) => {
                let operand = resolver.locate(without_span(location)).await.ok()?;
                let location = resolver.open(&operand).await.ok()?;
                let tags = location.content().tags();
                tags.map_ok(|tag| tag.to_string()).boxed()
            }
            Self::Targets(location) => {
                let operand = resolver.locate(without_span(location)).await.ok()?;
                let found = resolver.resolve(&operand).await.ok()?;
                entry_names(&found, |entry| {
                    entry.annotation(annotation::TARGET).map(str::to_owned)
                })
            }
            Self::Platforms(location) => {
                let operand = resolver.locate(without_span(location)).await.ok()?;
                let found = resolver.resolve(&operand).await.ok()?;
                entry_names(&found, |entry| {
                    let platform = entry.platform.as_ref();
                    let platform = platform.filter(|platform| platform::is_known(platform));
                    platform.map(ToString::to_string)
                })
            }
        })
    }
}

/// Creates an operand with an unknown span. Completion reports no errors, so it needs no span.
fn without_span(name: LocationText) -> Operand<LocationText> {
    let span = Span::unknown();
    Operand { name, span }
}

/// Returns the sorted distinct names of an index's entries.
fn entry_names(
    found: &ResolvedManifest,
    name: impl Fn(&Descriptor) -> Option<String>,
) -> NameStream {
    let index = found.manifest.as_index();
    let entries = index.map_or(&[][..], |index| &index.manifests).iter();
    let mut names: Vec<_> = entries.filter_map(name).collect();
    names.sort();
    names.dedup();
    stream::iter(names.into_iter().map(Ok)).boxed()
}

/// Stream of the names in a list.
type NameStream = BoxStream<'static, oci_registry::Result<String>>;

/// Cache of complete and partially fetched lists.
#[derive(Default)]
pub(crate) struct CompletionCache(Mutex<CachedLists>);

#[derive(Default)]
struct CachedLists {
    /// Environment in which the lists were fetched. The cache is cleared when the environment changes.
    context: Option<ShellContext>,
    lists: HashMap<String, CachedList>,
}

/// List of names that is complete or being fetched.
#[derive(Clone)]
struct CachedList {
    registry: Option<RegistryName>,
    requested_at: Instant,
    /// Instant at which the shell stops waiting for the list.
    wait_until: Instant,
    progress: watch::Receiver<FetchedNames>,
}

impl CachedList {
    /// Whether the list is no longer being fetched.
    fn is_finished(&self) -> bool {
        self.progress.borrow().is_finished
    }

    /// Whether the list is still being fetched after the shell stopped waiting.
    fn is_late(&self) -> bool {
        self.requested_at.elapsed() >= WAIT_LIMIT && !self.is_finished()
    }

    /// Whether fetching timed out before the first name, and the cache lifetime has not elapsed since the request.
    fn timed_out_recently(&self) -> bool {
        self.requested_at.elapsed() < CACHE_LIFETIME && self.progress.borrow().has_timed_out
    }
}

#[derive(Debug, Clone, Default)]
struct FetchedNames {
    names: Vec<String>,
    is_finished: bool,
    /// Whether fetching timed out before the first name.
    has_timed_out: bool,
}

impl fmt::Debug for CompletionCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompletionCache").finish_non_exhaustive()
    }
}

/// Returns the names of a list that arrive within the wait limit, or `None` if the list cannot be requested.
fn list_names(
    plugin: &OciPlugin,
    engine: &EngineInterface,
    list: &NameList,
    later_call: impl Future<Output = ()>,
) -> Option<Vec<String>> {
    let settings = ConnectionSettings::from_config(engine).ok()?;
    let context = ShellContext::read(engine, &settings).ok()?;
    let environment = context.environment();
    let client = plugin.clients.client(&context);
    let resolver = OperandResolver::new(client, context.current_dir());
    let runtime = plugin.runtime.start().ok()?;
    let _inside = runtime.enter();
    let cached = plugin
        .completions
        .get(context, list, || list.clone().fetch(resolver, environment));
    let mut progress = cached.progress;
    runtime.block_on(async {
        let finished = async {
            // Waiting fails only if the sender was dropped. No more names arrive in this case.
            let _ = progress.wait_for(|progress| progress.is_finished).await;
        };
        // In every case, the names that have arrived so far are returned.
        tokio::select! {
            () = finished => {}
            () = tokio::time::sleep_until(cached.wait_until) => {}
            () = later_call => {}
        }
    });
    let names = progress.borrow().names.clone();
    Some(names)
}

impl CompletionCache {
    /// Returns the cached list, or starts fetching the list.
    fn get<F>(
        &self,
        context: ShellContext,
        list: &NameList,
        fetch: impl FnOnce() -> F,
    ) -> CachedList
    where
        F: Future<Output = Option<NameStream>> + Send + 'static,
    {
        let mut cache = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.context.as_ref() != Some(&context) {
            *cache = CachedLists {
                context: Some(context),
                lists: HashMap::new(),
            };
        }
        let key = list.key();
        let previous = cache.lists.get(&key);
        if let Some(cached) =
            previous.filter(|cached| cached.requested_at.elapsed() < CACHE_LIFETIME)
        {
            return cached.clone();
        }
        // The expired names are used until the list has been fetched again.
        let expired = previous.map(|cached| cached.progress.borrow().names.clone());
        let registry = list.registry();
        let others = cache.lists.values();
        let others =
            others.filter(|other| registry.is_some() && other.registry.as_ref() == registry);
        let (is_late, has_timed_out) = others.fold((false, false), |(late, timed_out), other| {
            (
                late || other.is_late(),
                timed_out || other.timed_out_recently(),
            )
        });
        let (sender, progress) = watch::channel(FetchedNames {
            names: expired.unwrap_or_default(),
            is_finished: has_timed_out,
            has_timed_out: false,
        });
        let requested_at = Instant::now();
        let cached = CachedList {
            registry: registry.cloned(),
            requested_at,
            wait_until: if is_late {
                requested_at
            } else {
                requested_at + WAIT_LIMIT
            },
            progress,
        };
        if !has_timed_out {
            tokio::spawn(receive_names(fetch(), sender));
            cache.lists.insert(key, cached.clone());
        }
        cached
    }
}

/// Publishes each name of a list when it arrives, and marks the list as finished after the last name.
async fn receive_names(
    fetch: impl Future<Output = Option<NameStream>>,
    sender: watch::Sender<FetchedNames>,
) {
    let mut names = Vec::new();
    let work = async {
        let Some(stream) = fetch.await else { return };
        let mut stream = stream.take(MAX_NAMES);
        while let Some(Ok(name)) = stream.next().await {
            names.push(name);
            sender.send_modify(|progress| {
                // The new names replace the expired names as soon as there are more new names.
                if progress.names.len() < names.len() {
                    progress.names.clone_from(&names);
                }
            });
        }
    };
    let outcome = tokio::time::timeout(FETCH_TIMEOUT, work).await;
    sender.send_modify(|progress| {
        progress.has_timed_out = outcome.is_err() && names.is_empty();
        if !names.is_empty() {
            progress.names = names;
        }
        progress.is_finished = true;
    });
}

#[cfg(test)]
mod tests {
    use futures_util::future::{Ready, ready};

    use super::*;

    fn context(typed: &str, kind: ArgumentKind) -> Option<(NameList, String, bool)> {
        let context = CompletionContext::from_argument(typed, kind)?;
        let shape = format!("{}…{}", context.prefix, context.suffix);
        Some((context.list, shape, context.completes_argument))
    }

    #[test]
    fn completion_context_is_derived_from_typed_text() {
        use ArgumentKind::{Manifest, Registry, Repository};
        let registries = |suffix: &str, completes_argument| {
            Some((
                NameList::Registries,
                format!("…{suffix}"),
                completes_argument,
            ))
        };
        assert_eq!(context("", Registry), registries("", true));
        assert_eq!(context("gh", Manifest), registries("/", false));
        assert_eq!(context("localhost:50", Manifest), registries("/", false));
        assert_eq!(context("ghcr.io/a", Registry), None);
        let repositories = |completes_argument| {
            let list = NameList::Repositories("ghcr.io".parse().unwrap());
            Some((list, "ghcr.io/…".to_owned(), completes_argument))
        };
        assert_eq!(context("ghcr.io/", Repository), repositories(true));
        assert_eq!(context("ghcr.io/acme/w", Manifest), repositories(false));
        let tags = |repository: &str| {
            let list = NameList::Tags(repository.parse().unwrap());
            Some((list, format!("{repository}:…"), true))
        };
        assert_eq!(context("ghcr.io/acme/w:", Manifest), tags("ghcr.io/acme/w"));
        assert_eq!(context("a:1/b:1.2", Manifest), tags("a:1/b"));
        assert_eq!(context("oci:dir:", Manifest), tags("oci:dir"));
        for typed in ["ghcr.io/acme/w:1", "ghcr.io/acme/W:"] {
            assert_eq!(context(typed, Repository), None, "{typed}");
        }
        assert_eq!(context("oci:dir/x", Manifest), None);
        let quoted = |typed| context(typed, Manifest).map(|(_, shape, _)| shape);
        assert_eq!(quoted("'gh").as_deref(), Some("'…/"));
        assert_eq!(quoted("\"a.b/c:").as_deref(), Some("\"a.b/c:…\""));
    }

    /// Returns a stream that waits before each name.
    fn slow_names(pause: Duration, names: &'static [&'static str]) -> Ready<Option<NameStream>> {
        let names = stream::iter(names).then(move |name| async move {
            tokio::time::sleep(pause).await;
            Ok((*name).to_owned())
        });
        ready(Some(names.boxed()))
    }

    #[tokio::test(start_paused = true)]
    async fn list_after_the_wait_limit_is_used_by_next_completion() {
        let completions = CompletionCache::default();
        let (list, shell) = (NameList::Registries, ShellContext::default);
        let second = Duration::from_secs(1);
        let first = completions.get(shell(), &list, || slow_names(second, &["a", "b"]));
        assert_eq!(first.wait_until, first.requested_at + WAIT_LIMIT);
        tokio::time::sleep_until(first.wait_until).await;
        assert!(first.is_late());
        assert!(first.progress.borrow().names.is_empty());
        tokio::time::sleep(3 * second).await;
        let again = completions.get(shell(), &list, || slow_names(second, &["not fetched"]));
        assert_eq!(again.requested_at, first.requested_at);
        assert_eq!(again.progress.borrow().names, ["a", "b"]);
        // An expired list is fetched again. The old names are returned until the new list is longer or complete.
        tokio::time::sleep(CACHE_LIFETIME).await;
        let later = completions.get(shell(), &list, || slow_names(second, &["c", "d", "e"]));
        assert_ne!(later.requested_at, first.requested_at);
        assert_eq!(later.progress.borrow().names, ["a", "b"]);
        tokio::time::sleep(4 * second).await;
        assert_eq!(later.progress.borrow().names, ["c", "d", "e"]);
    }

    #[tokio::test(start_paused = true)]
    async fn completion_list_without_response_times_out_empty() {
        let completions = CompletionCache::default();
        let hour = Duration::from_hours(1);
        let cached = completions.get(ShellContext::default(), &NameList::Registries, || {
            slow_names(hour, &["never"])
        });
        tokio::time::sleep(FETCH_TIMEOUT * 2).await;
        assert!(cached.is_finished() && cached.progress.borrow().names.is_empty());
    }

    #[test]
    fn completion_name_with_shell_syntax_is_not_suggested() {
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
    async fn completion_waits_only_once_for_unresponsive_registry() {
        let completions = CompletionCache::default();
        let hour = Duration::from_hours(1);
        let get = |list: &str, pause| {
            let list = match list.parse() {
                Ok(registry) => NameList::Repositories(registry),
                Err(_) => NameList::Tags(list.parse().unwrap()),
            };
            completions.get(ShellContext::default(), &list, || {
                slow_names(pause, &["name"])
            })
        };
        let first = get("a.b", hour);
        // Until the first list is late, completion also waits for other lists of the registry.
        let sibling = get("a.b/sibling", hour);
        assert_eq!(sibling.wait_until, sibling.requested_at + WAIT_LIMIT);
        tokio::time::sleep(WAIT_LIMIT).await;
        let late = get("a.b/late", hour);
        assert_eq!(late.wait_until, late.requested_at);
        let elsewhere = get("c.d/late", hour);
        assert_eq!(elsewhere.wait_until, elsewhere.requested_at + WAIT_LIMIT);
        tokio::time::sleep(FETCH_TIMEOUT).await;
        assert!(first.timed_out_recently());
        let skipped = get("a.b/more", Duration::ZERO);
        assert!(skipped.is_finished());
        // After the cache lifetime, completion sends requests to the registry again.
        tokio::time::sleep(CACHE_LIFETIME).await;
        let again = get("a.b/more", Duration::ZERO);
        assert!(!again.is_finished());
        tokio::time::sleep(WAIT_LIMIT).await;
        assert_eq!(again.progress.borrow().names, ["name"]);
    }
}
