//! What is served to browsers, and to whose pages.

use axum::http::{HeaderValue, Uri};

/// What is served to browsers.
#[derive(Debug, Clone, Default)]
pub struct WebSettings {
    /// The origins whose pages may call beside our own, such as `https://app.example.com`.
    pub origins: Vec<HeaderValue>,
    /// The tile server of the map; `None`: there is none.
    pub tiles: Option<Tiles>,
    /// Whether the server is spoken to by names of this machine alone: where callers are not known, any page that a person looks at
    /// could call it under a name of its own that leads here (DNS rebinding).
    pub this_machine_only: bool,
}

/// A tile server.
#[derive(Debug, Clone)]
pub struct Tiles {
    /// Its address, with `{z}`, `{x}` and `{y}` in it.
    pub url: String,
    /// Its origin, such as `https://tiles.example.com`.
    pub origin: String,
    /// Whom its tiles are owed to.
    pub attribution: String,
}

/// An origin as browsers send it: a scheme, a host and perhaps a port, and nothing else.
pub fn web_origin(text: &str) -> Option<HeaderValue> {
    let origin = origin(&text.parse().ok()?)?;
    (origin == text).then(|| HeaderValue::from_str(text).ok())?
}

/// The origin of an address of tiles; `None`: no tile can be asked for there.
pub fn tile_origin(url: &str) -> Option<String> {
    let has_places = ["{z}", "{x}", "{y}"].iter().all(|place| url.contains(place));
    // Braces are none of an address.
    let address = url.replace(['{', '}'], "");
    has_places.then(|| origin(&address.parse().ok()?))?
}

fn origin(address: &Uri) -> Option<String> {
    let scheme = address
        .scheme_str()
        .filter(|scheme| ["http", "https"].contains(scheme))?;
    let authority = address.authority()?.as_str();
    // A name and a password are no part of an origin, and a browser sends the host in small letters.
    let is_plain = !authority.contains(['@', '*', ';', ',', '\'', '"']) && authority.to_lowercase() == authority;
    is_plain.then(|| format!("{scheme}://{authority}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_a_scheme_a_host_and_perhaps_a_port() {
        for good in ["https://app.example.com", "http://127.0.0.1:5173", "https://[::1]:8443"] {
            assert_eq!(web_origin(good).unwrap(), good);
        }
        for bad in [
            "",
            "*",
            "null",
            "app.example.com",
            "https://app.example.com/",
            "https://app.example.com/page",
            "https://App.example.com",
            "https://*.example.com",
            "https://anna@app.example.com",
            "ftp://app.example.com",
            "https://",
        ] {
            assert_eq!(web_origin(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn the_address_of_tiles_has_a_place_for_each_of_the_three_numbers() {
        let origin = tile_origin("https://tiles.example.com/a/{z}/{x}/{y}.png?key=1");
        assert_eq!(origin.as_deref(), Some("https://tiles.example.com"));
        for bad in [
            "https://tiles.example.com/{z}/{x}.png",
            "/{z}/{x}/{y}.png",
            "https://{s}.*.example.com/{z}/{x}/{y}",
            "https://a;script-src/{z}/{x}/{y}",
        ] {
            assert_eq!(tile_origin(bad), None, "{bad:?}");
        }
    }
}
