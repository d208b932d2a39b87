//! Registry that responds only to requests for the first page of a list of tags.

use std::sync::mpsc::{self, Receiver};

use testkit::server::{Response, Server};

/// Starts a registry with one page of two tags and a link to the next page. The channel receives the target of each
/// unanswered request.
#[must_use]
pub fn hanging_registry() -> (Server, Receiver<String>) {
    let (sender, unanswered) = mpsc::channel();
    let server = Server::start(move |request, _| {
        if request.path().ends_with("/tags/list") && !request.target.contains("last=") {
            return Response::new(200)
                .header("Link", "</v2/more/tags/list?last=1.1.0>; rel=\"next\"")
                .body(r#"{"tags":["1.0.0","1.1.0"]}"#);
        }
        // Sending fails if the test has dropped the receiver.
        let _ = sender.send(request.target.clone());
        Response::never()
    });
    (server, unanswered)
}
