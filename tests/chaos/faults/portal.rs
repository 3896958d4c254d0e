//! Faults of the portal, and of a gateway in front of it.

use std::time::Duration;

use kube::api::ListParams;
use testkit::portal::{Answer, App};
use tokio::time::sleep;

use crate::plan::Fault;
use crate::stage::Stage;

const FLAP: Duration = Duration::from_millis(1500);

/// Injects one and ends it.
pub async fn inject(stage: &Stage, fault: Fault, lasts: Duration) {
    let portal = &stage.env.portal;
    match fault {
        Fault::PortalHangs => stage.answer_all(|app| App { hang: true, ..app }),
        Fault::PortalLimits => stage.answer_all(|app| App { answer: Some(limited()), ..app }),
        Fault::GatewayUnauthorized => stage.answer_all(|app| App { answer_on_verify: Some(unauthorized()), ..app }),
        Fault::TokensEnded => {
            stage.answer_all(|app| App { answer: Some(failing()), answer_on_verify: Some(failing()), ..app });
        }
        Fault::PortalUntrusted => stage.portal_link.redirect(stage.impostor.address()),
        _ => {
            let started = tokio::time::Instant::now();
            while started.elapsed() < lasts {
                portal.outage(true);
                sleep(FLAP).await;
                portal.outage(false);
                sleep(FLAP).await;
            }
            return;
        }
    }
    sleep(lasts).await;
    match fault {
        Fault::GatewayUnauthorized => no_token_is_rejected(stage).await,
        Fault::TokensEnded => {
            portal.revoke_all();
            (0..stage.size).for_each(|n| stage.touch(n, true));
        }
        _ => {}
    }
    stage.answer_all(|app| app);
    stage.portal_link.redirect(portal.address());
}

fn limited() -> Answer {
    Answer { status: 429, headers: [("retry-after".to_owned(), "60".to_owned())].into(), body: String::new() }
}

/// What a gateway in front of the portal answers.
fn unauthorized() -> Answer {
    let headers = [("content-type".to_owned(), "text/html".to_owned())].into();
    Answer { status: 401, headers, body: "<html><body>Sign in</body></html>".to_owned() }
}

fn failing() -> Answer {
    Answer { status: 503, ..Answer::default() }
}

/// What stands in front of the portal rejects no token.
async fn no_token_is_rejected(stage: &Stage) {
    let check = async || {
        for resource in stage.env.resources().list(&ListParams::default()).await?.items {
            let conditions = resource.status.iter().flat_map(|status| &status.conditions);
            if conditions.into_iter().any(|condition| condition.reason == "TokenRejected") {
                let name = resource.metadata.name.unwrap_or_default();
                stage.problem(format!("the token of {name} counts as rejected by the portal"));
            }
        }
        Ok(())
    };
    stage.persist("a list", check).await;
}
