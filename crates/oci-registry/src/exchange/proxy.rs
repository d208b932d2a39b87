//! Proxies, as the usual variables name them.

use snafu::ResultExt;

use super::{BuildProxySnafu, Error, RootCause};
use crate::environment::Environment;

/// This machine is never reached through a proxy.
const NEVER: &str = "localhost,127.0.0.0/8,::1";

/// The proxies of `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`, lower case first as curl has it.
///
/// `HTTP_PROXY` in upper case is not read where a web server could have set it (`REQUEST_METHOD`, the httpoxy case).
pub(super) fn from_environment(environment: &Environment) -> Result<Vec<reqwest::Proxy>, Error> {
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
    let no_proxy = reqwest::NoProxy::from_string(&format!("{NEVER},{exceptions}"));
    let mut proxies = Vec::new();
    let build = |variable: &str, proxy: reqwest::Result<reqwest::Proxy>| {
        proxy
            .map_err(RootCause::from)
            .context(BuildProxySnafu { variable })
    };
    if let Some((variable, url)) = first(&["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"])
    {
        proxies.push(build(variable, reqwest::Proxy::https(url))?.no_proxy(no_proxy.clone()));
    }
    if let Some((variable, url)) = first(http).or_else(|| first(&["all_proxy", "ALL_PROXY"])) {
        proxies.push(build(variable, reqwest::Proxy::http(url))?.no_proxy(no_proxy));
    }
    Ok(proxies)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(variables: &[(&str, &str)]) -> Result<usize, Error> {
        let variables = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        from_environment(&Environment::new(variables, None, "/".into()))
            .map(|proxies| proxies.len())
    }

    #[test]
    fn the_usual_variables_are_read() {
        assert_eq!(count(&[]).unwrap(), 0);
        assert_eq!(
            count(&[("HTTPS_PROXY", "http://p.example:3128")]).unwrap(),
            1
        );
        assert_eq!(
            count(&[("all_proxy", "http://p.example:3128"), ("no_proxy", "a.b")]).unwrap(),
            2
        );
        assert_eq!(
            count(&[
                ("HTTP_PROXY", "http://p.example"),
                ("REQUEST_METHOD", "GET")
            ])
            .unwrap(),
            0
        );
        let error = count(&[("HTTPS_PROXY", "http://[canary")]).unwrap_err();
        assert!(error.to_string().contains("HTTPS_PROXY"));
    }
}
