//! What a reader finds on a page of [`waybill_simulator::report`].

mod invented;

use waybill_simulator::report::page;

#[test]
fn a_limit_of_the_generator_is_told_at_the_top() {
    let mut report = invented::staircase();
    assert!(!page(&report).contains("role=\"alert\""));
    report.generator.limited_by_generator = Some("it used all of 8 cores".to_owned());
    let page = page(&report);
    let told = page.find("it used all of 8 cores").unwrap();
    assert!(told < page.find("<h2>").unwrap(), "below the first heading");
}

#[test]
fn what_was_never_answered_has_no_latency() {
    let page = page(&invented::nothing());
    assert!(!page.contains("NaN") && !page.contains("inf"));
    assert!(page.contains("<dt>p99</dt><dd>–</dd>"));
    assert!(!page.contains("How long the answered ones took"));
}
