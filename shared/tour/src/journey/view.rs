//! A view arrives, again, from the author, and from nobody.

use super::guide::Guide;
use super::people::POST;

pub(super) async fn arrive(guide: &mut Guide) {
    guide.report.headline("A view arrives");
    let command = guide.view_command("VIEWER", POST);
    let answer = guide.step("A viewer sees a post that had 41 views", &command).await;
    guide.check_answer("a first view", &answer, "counted", 42);
    let answer = guide.step("The same viewer again", &command).await;
    guide.check_answer("a second view", &answer, "duplicate", 42);
    let answer = guide.step("The author looks at the post", &guide.view_command("AUTHOR", POST)).await;
    guide.check_answer("the author's view", &answer, "own", 42);
    let answer = guide.step("Without a token", &guide.view_command("", POST)).await;
    guide.report.check("a view without a token", 401, answer.field("statusCode"));
}
