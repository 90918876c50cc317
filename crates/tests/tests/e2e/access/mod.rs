//! Who may call what, and what it sees: callers with tokens, on a server that trusts who signed them.

mod matrix;
mod narrow;
mod streams;

use std::time::Duration;

use testkit::{Builder, Rig};
use tonic::Request;
use waybill_sandbox::tokens::TokenSigner;

/// A server that lets in whom this signer signed for, and the signer.
struct Doors {
    rig: Rig,
    signer: TokenSigner,
    _folder: tempfile::TempDir,
}

impl Doors {
    async fn start(builder: Builder) -> Doors {
        let signer = TokenSigner::new().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let keys = folder.path().join("keys.json");
        std::fs::write(&keys, signer.key_set().unwrap()).unwrap();
        let rig = builder
            .set("auth.anonymous", "false")
            .set("auth.keys", keys.to_str().unwrap())
            .set("auth.issuer", TokenSigner::ISSUER)
            .set("grpc.services", "order,location,fleet,operator")
            .start()
            .await;
        Doors {
            rig,
            signer,
            _folder: folder,
        }
    }

    fn token(&self, role: &str, subject: &str) -> String {
        self.signer.token(role, subject, Duration::from_mins(10)).unwrap()
    }
}

/// The call of whoever has this token.
fn by<T>(token: Option<&str>, message: T) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(token) = token {
        let value = format!("Bearer {token}").parse().unwrap();
        request.metadata_mut().insert("authorization", value);
    }
    request
}
