with served as (

    select * from {{ ref('served_feedback') }}
    where arm in ('champion', 'challenger')

),

-- Who was in both arms, because the share was changed under one name, tells nothing of either.
people as (

    select
        experiment,
        subject,
        any_value(arm) as arm
    from served
    group by experiment, subject
    having count(distinct arm) = 1

),

-- A film counts once a person, however often it was served.
films as (

    select
        served.experiment,
        people.arm,
        served.subject,
        served.movie_key,
        cast(bool_or(served.is_clicked) as bigint) as clicked,
        cast(bool_or(served.is_rated) as bigint) as rated,
        cast(bool_or(served.is_liked) as bigint) as liked
    from served
    inner join people on served.experiment = people.experiment and served.subject = people.subject
    group by served.experiment, people.arm, served.subject, served.movie_key

),

per_person as (

    select
        experiment,
        arm,
        subject,
        count(*) as films,
        cast(sum(clicked) as bigint) as clicked,
        cast(sum(rated) as bigint) as rated,
        cast(sum(liked) as bigint) as liked
    from films
    group by experiment, arm, subject

),

-- Of each person what was counted, and of how many.
measured as (

    select
        experiment,
        arm,
        unnest(['click_rate', 'rating_rate', 'like_rate', 'users_who_click', 'users_who_rate']) as measure,
        unnest([clicked, rated, liked, cast(clicked > 0 as bigint), cast(rated > 0 as bigint)]) as hits,
        unnest([films, films, rated, 1, 1]) as chances
    from per_person

),

sums as (

    select
        experiment,
        arm,
        measure,
        count(*) as users,
        sum(chances) as chances,
        sum(hits) as hits,
        sum(hits * hits) as hits_squared,
        sum(hits * chances) as hits_by_chances,
        sum(chances * chances) as chances_squared
    from measured
    where chances > 0
    group by experiment, arm, measure
    having count(*) >= 2

),

rates as (

    select
        *,
        cast(hits as double) / cast(chances as double) as rate
    from sums

),

-- People are dealt to arms, so people are what varies: the variance of a ratio of sums over people.
variances as (

    select
        *,
        users / (users - 1.0)
        * greatest(
            cast(hits_squared as double)
            - 2 * rate * cast(hits_by_chances as double)
            + rate * rate * cast(chances_squared as double),
            0
        )
        / (cast(chances as double) * cast(chances as double)) as variance
    from rates

),

pairs as (

    select
        a.experiment,
        a.measure,
        a.users as champion_users,
        b.users as challenger_users,
        a.chances as champion_chances,
        b.chances as challenger_chances,
        a.rate as champion_rate,
        b.rate as challenger_rate,
        b.rate - a.rate as difference,
        1.96 * sqrt(a.variance + b.variance) as half_width
    from variances as a
    inner join
        variances as b
        on
            a.experiment = b.experiment
            and a.measure = b.measure
            and a.arm = 'champion'
            and b.arm = 'challenger'

),

final as (

    select
        experiment,
        measure,
        cast(champion_users as integer) as champion_users,
        cast(challenger_users as integer) as challenger_users,
        cast(champion_chances as bigint) as champion_chances,
        cast(challenger_chances as bigint) as challenger_chances,
        round(champion_rate, 6) as champion_rate,
        round(challenger_rate, 6) as challenger_rate,
        round(difference, 6) as difference,
        round(difference - half_width, 6) as difference_low,
        round(difference + half_width, 6) as difference_high,
        case
            when difference - half_width > 0 then 'better'
            when difference + half_width < 0 then 'worse'
            else 'unclear'
        end as verdict
    from pairs
    order by experiment, measure

)

select * from final
