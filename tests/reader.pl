#!/usr/bin/perl
# Reads addresses as Perl's programs do. In: lines, each a field's value in hexadecimal digits. Out: for each a line of
# JSON, the addresses by module.
use strict;
use warnings;
use Email::Address;
use Email::Address::XS;
use JSON::PP;
use Mail::Address;

$| = 1;
my $json = JSON::PP->new->latin1;
while (my $line = <STDIN>) {
    chomp $line;
    my $value = pack 'H*', $line;
    # A program takes the host by itself, whether the module calls the address valid or not.
    my @xs = map { join '@', $_->user // '', $_->host // '' } Email::Address::XS->parse($value);
    print $json->encode({
        'Email::Address' => [map { $_->address } Email::Address->parse($value)],
        'Email::Address::XS' => \@xs,
        'Mail::Address' => [map { $_->address } Mail::Address->parse($value)],
    }), "\n";
}
