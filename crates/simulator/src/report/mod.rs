//! Pages for people: what a run measured, as one HTML file that needs nothing else.
