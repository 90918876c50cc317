//! What callers show: customers and drivers tokens about themselves, and the business that of a program.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::wire::by;
use tonic::Request;
use waybill_sandbox::tokens::TokenSigner;

/// As long as the server lets those of customers and drivers live.
const LIVES: Duration = Duration::from_hours(1);

/// Signs tokens that the servers under test trust.
pub struct Tokens {
    signer: TokenSigner,
    /// The file of `auth.keys`.
    pub keys: PathBuf,
}

impl Tokens {
    /// With a key of its own, whose public half is in `folder`.
    pub fn new(folder: &Path) -> Tokens {
        let signer = TokenSigner::new().expect("a key");
        let keys = folder.join("token-keys.json");
        fs::write(&keys, signer.key_set().expect("a key set")).expect("the folder can be written");
        Tokens { signer, keys }
    }

    /// A call of this customer.
    pub fn customer<T>(&self, user: &str, message: T) -> Request<T> {
        self.call("customer", user, message)
    }

    /// A call of this driver.
    pub fn driver<T>(&self, driver: &str, message: T) -> Request<T> {
        self.call("driver", driver, message)
    }

    /// A call of the business.
    pub fn service<T>(&self, message: T) -> Request<T> {
        self.call("service", "shop", message)
    }

    /// What the business shows, for callers that make their calls themselves.
    pub fn of_service(&self) -> String {
        self.token("service", "shop")
    }

    fn call<T>(&self, role: &str, subject: &str, message: T) -> Request<T> {
        by(Some(&self.token(role, subject)), message)
    }

    fn token(&self, role: &str, subject: &str) -> String {
        self.signer.token(role, subject, LIVES).expect("a token")
    }
}
