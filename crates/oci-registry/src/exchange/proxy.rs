//! Proxies from environment variables.

use hyper_util::client::proxy::matcher::Matcher;
use snafu::ResultExt;
use url::Url;

use super::error::{BuildProxySnafu, Error, RootCause};
use crate::environment::Environment;

/// Hosts that never use a proxy: the names and addresses of this machine.
const EXCLUDED_HOSTS: &str = "localhost,127.0.0.0/8,::1";

/// Placeholder for proxy URLs in the matcher, which determines only whether a proxy applies.
const PLACEHOLDER_PROXY: &str = "http://proxy.invalid";

/// Proxies from environment variables, and the rules that select the URLs for them.
#[derive(Debug)]
pub(super) struct Proxies {
    list: Vec<reqwest::Proxy>,
    /// Matcher that determines whether a URL uses a proxy. It has the same rules as the HTTP client, which does not
    /// expose its decision.
    matcher: Matcher,
}

impl Proxies {
    /// Reads `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`. The lower-case names take precedence, as in curl.
    ///
    /// `HTTP_PROXY` in upper case is ignored if `REQUEST_METHOD` is set, because a web server could have set it from a
    /// request header (httpoxy).
    pub(super) fn from_environment(environment: &Environment) -> Result<Self, Error> {
        let first = |names: &[&'static str]| {
            names
                .iter()
                .find_map(|name| environment.var(name).map(|value| (*name, value.to_owned())))
        };
        let http = if environment.var("REQUEST_METHOD").is_some() {
            &["http_proxy"][..]
        } else {
            &["http_proxy", "HTTP_PROXY"]
        };
        let exceptions = first(&["no_proxy", "NO_PROXY"])
            .map(|(_, list)| list)
            .unwrap_or_default();
        let exceptions = format!("{EXCLUDED_HOSTS},{exceptions}");
        let no_proxy = reqwest::NoProxy::from_string(&exceptions);
        let mut matcher = Matcher::builder().no(exceptions);
        let mut list = Vec::new();
        let build = |variable: &str, proxy: reqwest::Result<reqwest::Proxy>| {
            proxy
                .map_err(RootCause::from)
                .context(BuildProxySnafu { variable })
        };
        if let Some((variable, url)) =
            first(&["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"])
        {
            list.push(build(variable, reqwest::Proxy::https(url))?.no_proxy(no_proxy.clone()));
            matcher = matcher.https(PLACEHOLDER_PROXY);
        }
        if let Some((variable, url)) = first(http).or_else(|| first(&["all_proxy", "ALL_PROXY"])) {
            list.push(build(variable, reqwest::Proxy::http(url))?.no_proxy(no_proxy));
            matcher = matcher.http(PLACEHOLDER_PROXY);
        }
        let matcher = matcher.build();
        Ok(Self { list, matcher })
    }

    /// Adds the proxies to an HTTP client.
    pub(super) fn configure(&self, builder: reqwest::ClientBuilder) -> reqwest::ClientBuilder {
        self.list
            .iter()
            .cloned()
            .fold(builder, reqwest::ClientBuilder::proxy)
    }

    /// Whether a request to this URL uses a proxy. Returns true if this cannot be determined, because the remote
    /// address may be the address of a proxy.
    pub(super) fn apply_to(&self, url: &Url) -> bool {
        let url = url.as_str().parse::<http::Uri>();
        url.map_or(true, |url| self.matcher.intercept(&url).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(variables: &[(&str, &str)]) -> Result<Proxies, Error> {
        let variables = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Proxies::from_environment(&Environment::new(variables, None, "/".into()))
    }

    /// Returns the URLs of a fixed list for which a proxy is used.
    fn proxied_urls(variables: &[(&str, &str)]) -> Vec<&'static str> {
        let proxies = proxies(variables).unwrap();
        let mut urls = vec![
            "https://a.b/",
            "http://a.b/",
            "https://x.a.b:5000/",
            "https://xa.b/",
            "https://10.1.2.3/",
            "http://localhost:5000/",
            "http://x.localhost/",
            "http://127.9.9.9/",
            "https://[::1]:5000/",
        ];
        urls.retain(|url| proxies.apply_to(&url.parse().unwrap()));
        urls
    }

    #[test]
    fn proxy_variables_select_urls_that_use_proxy() {
        let https = [
            "https://a.b/",
            "https://x.a.b:5000/",
            "https://xa.b/",
            "https://10.1.2.3/",
        ];
        assert!(proxied_urls(&[]).is_empty());
        assert_eq!(
            proxied_urls(&[("HTTPS_PROXY", "http://p.example:3128")]),
            https
        );
        assert_eq!(proxied_urls(&[("https_proxy", "p.example:3128")]), https);
        assert_eq!(
            proxied_urls(&[("http_proxy", "http://p.example")]),
            ["http://a.b/"]
        );
        assert_eq!(
            proxied_urls(&[("all_proxy", "http://p.example:3128"), ("no_proxy", "a.b")]),
            ["https://xa.b/", "https://10.1.2.3/"]
        );
        assert_eq!(
            proxied_urls(&[
                ("HTTPS_PROXY", "http://p.example"),
                ("NO_PROXY", ".xa.b, 10.0.0.0/8 ,a.b")
            ]),
            [""; 0]
        );
        let web = [
            ("HTTP_PROXY", "http://p.example"),
            ("REQUEST_METHOD", "GET"),
        ];
        assert!(proxied_urls(&web).is_empty());
        let error = proxies(&[("HTTPS_PROXY", "http://[canary")]).unwrap_err();
        assert!(error.to_string().contains("HTTPS_PROXY"));
    }
}
