"""The winner of a session in the forms in which it goes to work: each form is one entry of `trtune.exports.formats`."""
